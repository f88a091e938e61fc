"""Wires the parts together: the only place that chooses implementations, and starts and stops them.

``embedded`` is everything in one process tree. ``cluster`` has the gateway and the worker, the two
sides of a broker. ``process`` is shared by all of them.
"""
