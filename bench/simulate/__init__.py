"""Autoscaling and size, simulated: ``python -m bench.simulate``, or ``make simulate``.

``measure`` writes ``measured.json`` from running processes; everything else is arithmetic on it,
the same for the same data. ``farm`` is the product's way of a request as a discrete-event model
(simpy), ``autoscaler`` the HPA in front of it, ``paper`` the calculation for loads too large to
simulate, and ``page`` and ``plots`` write the tables and pictures of ``docs/scaling.md``.

Unlike the rest of ``bench`` it imports from ``modelyard``: constants and manifests, so that it
follows the product; and ``tests/unit`` imports it, to hold it against theory.
"""
