"""Audit: who did something administrative, and who tried to and might not."""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

from modelyard.core.clock import Clock

MOST_WAITING = 1000  # while the store is away; of more, the oldest are in the log alone
REFUSED_PER_MINUTE = 60  # so many are kept, or anybody could fill the store; all are in the log

log = logging.getLogger(__name__)


class Act(NamedTuple):
    """One act.

    Attributes:
        at: Unix time, in seconds.
        actor: The key's id, or the address of somebody who showed none.
        action: What was asked for, as ``POST /models/iris/unload``; ``refused: …`` if it was not
            done.
        subject: The model, where there is one.
    """

    at: float
    actor: str
    action: str
    subject: str


class Audit:
    """Acts that were noted, until they are kept in the store. Each is a line of the log as well.

    Args:
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, wall_clock: Clock) -> None:
        self._wall_clock = wall_clock
        self._waiting: deque[Act] = deque(maxlen=MOST_WAITING)
        self._minute, self._refused = 0.0, 0  # and how many were refused in it

    def note(self, actor: str, action: str, subject: str, *, is_refused: bool = False) -> None:
        """Note an act."""
        told = printable(actor, 128), printable(action, 64), printable(subject, 128)
        act = Act(self._wall_clock(), *told)
        if not is_refused or self._keeps_refused(act.at):
            self._waiting.append(act)
        log.info("audit", extra={"actor": act.actor, "action": act.action, "model": act.subject})

    def _keeps_refused(self, at: float) -> bool:
        minute = at // 60
        self._refused = 1 + (self._refused if minute == self._minute else 0)
        self._minute = minute
        return self._refused <= REFUSED_PER_MINUTE

    def take(self) -> list[Act]:
        """Return what was noted since the last call."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def put_back(self, acts: list[Act]) -> None:
        """Put back what could not be kept."""
        self._waiting.extendleft(reversed(acts))


def printable(text: str, longest: int) -> str:
    """Return so much of a text that a stranger may have made as a database takes and a terminal
    can be shown. PostgreSQL refuses a row with a NUL, and the others of its transaction with it.
    """
    text = text[:longest]
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
