"""Expiry: fails what still waits when its deadline passes. One timer for all requests."""

from __future__ import annotations

import asyncio
import time

from modelyard.core.deadline import Deadlines
from modelyard.core.errors import DeadlineExceeded

Waiter = asyncio.Future[bytes]


class Expiry:
    """Watches futures and gives DeadlineExceeded to those that are late."""

    def __init__(self) -> None:
        self._deadlines: Deadlines[Waiter] = Deadlines()
        self._is_ticking = False

    def watch(self, waiter: Waiter, deadline: float) -> int:
        """Fail ``waiter`` once ``deadline`` has passed, at most two ticks later."""
        if not self._is_ticking:
            self._is_ticking = True
            self._sleep()
        return self._deadlines.add(waiter, deadline=deadline)

    def forget(self, waiter: Waiter, ticket: int) -> None:
        """Stop watching; ``ticket`` is what ``watch`` gave."""
        self._deadlines.discard(waiter, ticket)

    def _sleep(self) -> None:
        asyncio.get_running_loop().call_later(self._deadlines.resolution_s, self._tick)

    def _tick(self) -> None:
        for waiter in self._deadlines.pop_expired(time.monotonic()):
            if not waiter.done():
                waiter.set_exception(DeadlineExceeded("there was no answer by the deadline"))
        self._is_ticking = bool(self._deadlines)
        if self._is_ticking:
            self._sleep()
