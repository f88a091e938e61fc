"""The runner of a model that has several batches or streams under way, on one event loop.

Nothing here is imported for a model that answers one batch at a time: its runner is a blocking loop
(``runner/__main__.py``), and has no event loop to pay for.
"""
