"""Resends requests whose answers could not be decoded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from modelyard.core.clock import Clock

EVERY_S = 1.0  # so that workers with undecodable answers do not cause a flood of retries


class Repair:
    """Calls ``resend`` soon after an unreadable answer, at most once per ``EVERY_S``.

    An unreadable answer does not say whose it was, so everything that was sent before is sent
    again. A duplicate costs one run, while a missing answer would cost a request its deadline.

    Args:
        clock: For the times at which requests left.
        resend: Resends the requests that left before the given time.
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
