"""A simulator: the real core in one thread, on a virtual clock, under faults that one seed draws.

``loop`` is time, ``network`` what lies between processes, ``rabbitmq`` the broker. ``parts`` puts
the product together as ``modelyard.compose`` does; ``scenario`` draws what happens, ``faults`` has
it happen, ``checks`` and ``oracle`` judge, and ``mutants`` shows that they can: ``make explore``.
"""
