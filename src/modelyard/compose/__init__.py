"""Puts the parts together: the only place that chooses implementations, starts and stops them.

``embedded`` is everything in one process tree; ``cluster`` is a gateway, and a worker, on either
side of a broker; ``process`` is what all of them share.
"""
