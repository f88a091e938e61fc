"""A simulator: the real core in one thread, on a virtual clock, under faults that one seed draws.

``loop`` is time, ``network`` what lies between processes, ``rabbitmq`` the broker. ``fleet`` puts the
product's parts together as ``modelyard.compose`` does; ``scenario`` draws what happens to them, and
``oracle`` judges what came of it. ``python -m tests.simulation --help``.
"""
