"""Modelyard beside other serving systems: ``python -m bench.peers``, or ``make bench-peers``.

One folder per peer: ``server.py`` runs in the peer's own environment, ``peer.py`` says how it is
started and spoken to, ``README.md`` why so. ``subjects.py`` holds the models, the same code
for all.
"""
