"""What a process answers to readiness probes."""

from __future__ import annotations

from typing import NamedTuple

DRAINING = "draining"
"""The status of a process that is about to end."""


class Verdict(NamedTuple):
    """Whether requests should be sent here. ``status``: "ready", or the reason why not, or what is
    degraded.
    """

    status: str
    is_ready: bool
