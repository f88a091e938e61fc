"""Room for connections: how many may be open, and which are closed for those that come.

Each needs a file descriptor. Where there is none left, new clients would be turned away, and no
runner could be started, while connections stay open on which nothing happens.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Protocol

SPARE = 100  # descriptors that are left for runners, files, the broker: at least so many,
SPARE_SHARE = 10  # or the tenth part
CLOSED_AT_ONCE = 16  # this part of those that are idle: looking for them takes milliseconds
TOLD_S = 10.0  # a line in the log at most so often
_ENOUGH = 1 << 20

log = logging.getLogger(__name__)


class Guest(Protocol):
    """A connection, as far as it matters here."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read or answered."""
        ...

    @property
    def quiet_since(self) -> float:
        """When it was opened, or last answered."""
        ...

    def leave(self) -> None:
        """Close it."""
        ...


class Room:
    """Keeps the connections of a server within a limit.

    Args:
        most: So many may be open.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._told = float("-inf")

    def make(self, guests: Iterable[Guest]) -> bool:
        """Close those that have been idle for the longest time; returns whether there were any."""
        idle = sorted((guest for guest in guests if guest.is_idle), key=_since)
        leaving = idle[: 1 + len(idle) // CLOSED_AT_ONCE]
        if time.monotonic() - self._told > TOLD_S:
            self._told = time.monotonic()
            log.warning("connections_at_limit", extra={"most": self.most, "idle": len(idle)})
        for guest in leaving:
            guest.leave()
        return bool(leaving)


def _since(guest: Guest) -> float:
    return guest.quiet_since


def room_of_process() -> Room:
    """Return the room that this process has. The limit on open files is raised as far as the system
    lets it: what many systems begin with is 1,024.
    """
    return Room(_most(_raise_limit()))


def _most(files: int) -> int:
    return max(1, files - max(SPARE, files // SPARE_SHARE))


def _raise_limit() -> int:
    """Return how many files may be open."""
    if sys.platform == "win32":
        return _ENOUGH
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS allows less than it says
        return soft
    return wanted
