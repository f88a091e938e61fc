"""What a process says of itself to whoever decides where requests go."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """Whether requests should come here. ``status``: "ready", or what is wrong or still to come."""

    status: str
    is_ready: bool
