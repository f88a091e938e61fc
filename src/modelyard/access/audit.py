"""Audit: who did something administrative, and who tried to and might not."""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

from modelyard.core.clock import Clock

MOST_WAITING = 1000  # while the store is away; of more, the oldest are in the log alone

log = logging.getLogger(__name__)


class Act(NamedTuple):
    """One act.

    Attributes:
        at: Unix time, in seconds.
        actor: The key's id, or the address of somebody who showed none.
        action: What was asked for, as ``POST /models/iris/unload``; ``refused: …`` if it was not
            done.
        subject: The model, or the key, where there is one.
        what: What it is now: a version, an alias, a route.
        was: What it was before.
        why: The reason that was given.
    """

    at: float
    actor: str
    action: str
    subject: str
    what: str = ""
    was: str = ""
    why: str = ""


class Audit:
    """Acts that were noted, until they are kept in the store. Each is a line of the log as well.

    Args:
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, wall_clock: Clock) -> None:
        self._wall_clock = wall_clock
        self._waiting: deque[Act] = deque(maxlen=MOST_WAITING)

    def note(self, actor: str, action: str, subject: str) -> None:
        """Note an act."""
        act = Act(self._wall_clock(), actor[:128], action[:64], subject[:128])
        self._waiting.append(act)
        log.info("audit", extra={"actor": act.actor, "action": act.action, "model": act.subject})

    def take(self) -> list[Act]:
        """Return what was noted since the last call."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def put_back(self, acts: list[Act]) -> None:
        """Put back what could not be kept."""
        self._waiting.extendleft(reversed(acts))
