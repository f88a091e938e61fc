"""What a process answers to readiness probes."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """Whether requests should be sent here. ``status``: "ready", or the reason why not, or what is
    degraded.
    """

    status: str
    is_ready: bool
