"""Answers in pieces: models that give them, runners that host these, and clients that read them.

The runner's own loop (``modelyard.runner.concurrent``) is the real one. It runs on the virtual
clock, in a simulated process of its own, which can be killed between any two of its callbacks.
"""
