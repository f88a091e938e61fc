"""Models without a class: artefacts that say themselves what they take and give.

Belongs here: one file for each ``runtime`` that ``model.toml`` may name, which reads its artefact
and answers with its library; and what they share (``model``, ``sides``, ``tables``). A runtime is
an ordinary ``Model`` whose annotations are made when it is loaded. It is imported by a runner
alone, and its library, an extra, only once it is needed. Nothing here unpickles anything.

Does not belong here: finding the artefact and looking at its first bytes (``modelyard.folder``).
"""
