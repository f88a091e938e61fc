"""What a runner is started with: its Python, its environment variables, secrets and devices.

Belongs here: finding what a model's ``model.toml`` asks of this machine, making what can be made,
and saying what is missing. Does not belong here: starting processes that host a model (``pool`` and
``check`` do), or knowing where settings come from.
"""

from __future__ import annotations


class NotEquipped(OSError):
    """This machine lacks what a model asks for; the text names it, and says what to do."""
