"""The benchmark: ``python -m bench``, or ``make bench``.

Here belongs what measures a running Modelyard from outside, over HTTP and by the figures that the
system keeps of its processes. Nothing here imports from ``modelyard`` but ``bench.simulate``, which
says why, and nothing in ``src/`` imports from here; ``tests/`` checks the arithmetic and lends the
broker. Each scenario is one file that starts what it needs, checks that it answers rightly,
measures, stops it, and gives rows (``bench/report.py``). ``bench.peers`` compares Modelyard with
other systems.
"""
