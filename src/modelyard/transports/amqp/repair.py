"""Has requests sent again whose answers came in a form that cannot be read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from modelyard.core.clock import Clock

EVERY_S = 1.0  # workers that write what we cannot read must not have us ask on and on


class Repair:
    """Calls ``resend`` soon after each unreadable answer, at most once in ``EVERY_S``.

    A copy costs a run, a missing answer costs a request its deadline.

    Args:
        clock: For the times at which requests left.
        resend: Sends again what left before the moment given.
    """

    def __init__(self, clock: Clock, *, resend: Callable[[float], None]) -> None:
        self._clock = clock
        self._resend = resend
        self._noted_at = self._done_at = -math.inf
        self._is_due = False

    def note(self) -> None:
        """Note that an answer could not be read."""
        self._noted_at = self._clock()
        if not self._is_due:
            self._is_due = True
            wait_s = max(0.0, self._done_at + EVERY_S - self._noted_at)
            asyncio.get_running_loop().call_later(wait_s, self._run)

    def _run(self) -> None:
        self._is_due, self._done_at = False, self._clock()
        self._resend(self._noted_at)
