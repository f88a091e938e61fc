"""What happens to the requests of a batch whose runner ended, and when a batch counts as hung.

Pure: decided from what is handed in, no clock and no process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Cause = Literal["crashed", "killed", "hung", "load_failed"]
"""Why a runner ended unasked. ``killed``: from outside, by an operator or by the kernel."""

Verdict = Literal["late", "guilty", "retry"]
"""Of a request whose runner ended: its deadline has passed; it is given up as what ends runners; or
it runs again, alone."""

WEIGHTS: dict[Cause, int] = {"crashed": 2, "killed": 1}
GUILTY = 4
"""A request is given up when its runner crashed twice, or was killed from outside four times: that
may be bad luck, or the kernel that had no more memory for this input."""

HANG_GRACE_S = 1.0


def judge(blame: int, cause: Cause, *, deadline: float, now: float) -> tuple[int, Verdict]:
    """Give the new blame of a request, and what becomes of it."""
    blame += WEIGHTS.get(cause, 0)
    if deadline <= now:
        return blame, "late"
    return blame, "guilty" if blame >= GUILTY else "retry"


class Patience:
    """How long a batch may take before its runner is ended.

    A batch is hung when a deadline in it has passed and it takes longer than any batch before it by
    more than ``HANG_GRACE_S``: early enough for the others in it to be answered in time.
    """

    def __init__(self, *, most_s: float) -> None:
        self._most_s = most_s
        self._longest_s = 0.0
        self._extra_s = 0.0

    def returned(self, took_s: float) -> None:
        """Note that a batch came to its end."""
        self._longest_s = max(self._longest_s, took_s)
        self._extra_s = 0.0

    def ended_hung(self, ran_s: float) -> None:
        """Note that a runner was ended as hung after so long.

        It may have been merely slow, with an impatient caller: the next one gets twice as long, up
        to the time that the model says a request may take.
        """
        self._extra_s = min(2 * ran_s, self._most_s)

    def hung_at(self, deadlines: Iterable[float], *, begun: float) -> float:
        """Give the moment at which a batch counts as hung. A deadline that had passed when it began
        does not hurry it: that request is not run.
        """
        first = min((deadline for deadline in deadlines if deadline > begun), default=begun)
        return first + HANG_GRACE_S + max(self._longest_s, self._extra_s)
