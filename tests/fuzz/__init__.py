"""Fuzzing: one target for each parser of foreign bytes, in ``targets``.

``make fuzz`` runs them under atheris, which follows the coverage, and keeps its corpus in
``build/fuzz``. The suite replays the inputs in ``seeds``, and changes of them (``mutation.py``),
without atheris. An input that found a bug becomes a seed, or a test beside the parser's others.
"""
