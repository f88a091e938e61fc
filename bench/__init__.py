"""The benchmark: ``python -m bench``, or ``make bench``.

Here belongs what measures a running Modelyard from outside, over HTTP and by the figures that the
system keeps of its processes. Nothing here imports from ``modelyard`` but ``bench.simulate``, which
says why, and nothing in ``src/`` imports from here; ``tests/`` checks the arithmetic, lends the
broker and counts instructions. Each scenario is one file that starts what it needs, checks that it
answers rightly, measures, stops it, and gives rows (``bench/report.py``). ``bench.peers`` compares
Modelyard with other systems, ``bench.costs`` what a request costs with what it did
(``bench/baseline.json``), ``bench.against`` this code with that of another checkout.
"""
