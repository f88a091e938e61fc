"""Decides what happens to the requests of a batch whose runner ended, and when a batch is hung.

Pure functions of their arguments: no clock, no process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Cause = Literal["crashed", "killed", "hung", "cancelled", "load_failed"]
"""Why a runner ended unexpectedly. ``killed``: from outside, by an operator or the kernel.
``cancelled``: it did not stop when the jobs that it ran were cancelled."""

Verdict = Literal["late", "guilty", "retry"]
"""What becomes of a request whose runner ended. ``late``: its deadline has passed. ``guilty``: it
is given up, as the likely cause. ``retry``: it runs again, alone."""

WEIGHTS: dict[Cause, int] = {"crashed": 2, "killed": 1}
GUILTY = 4
"""A request is given up after two crashes of its runner, or four kills from outside. A kill counts
half: it may be unrelated, or it may be the kernel running out of memory for this input."""

HANG_GRACE_S = 1.0


def judge(blame: int, cause: Cause, *, deadline: float, now: float) -> tuple[int, Verdict]:
    """Return a request's new blame, and the verdict."""
    blame += WEIGHTS.get(cause, 0)
    if deadline <= now:
        return blame, "late"
    return blame, "guilty" if blame >= GUILTY else "retry"


class Patience:
    """How long a batch may run before its runner is killed.

    A batch is hung when the earliest deadline in it passed longer ago than the slowest batch so far
    took, plus ``HANG_GRACE_S``. That is early enough to answer the others in it in time. See ADR 4.
    """

    def __init__(self, *, most_s: float) -> None:
        self._most_s = most_s
        self._longest_s = 0.0
        self._extra_s = 0.0

    def returned(self, took_s: float) -> None:
        """Note that a batch finished."""
        self._longest_s = max(self._longest_s, took_s)
        self._extra_s = 0.0

    def ended_hung(self, ran_s: float) -> None:
        """Note that a runner was killed as hung after ``ran_s`` seconds.

        The batch may just have been slow, with an impatient caller. So the next batch gets twice as
        long, up to the model's own timeout.
        """
        self._extra_s = min(2 * ran_s, self._most_s)

    def hung_at(self, deadlines: Iterable[float], *, begun: float) -> float:
        """Return the moment from which a batch counts as hung. Deadlines that had passed before it
        began are ignored, since those requests are not run.
        """
        first = min((deadline for deadline in deadlines if deadline > begun), default=begun)
        return first + HANG_GRACE_S + max(self._longest_s, self._extra_s)
