"""Expiry: settles calls whose deadline passes. One timer serves all calls."""

from __future__ import annotations

import asyncio

from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.deadline import Deadlines
from modelyard.core.errors import DeadlineExceeded


class Expiry:
    """Watches calls, and settles the late ones with DeadlineExceeded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: Deadlines[Call] = Deadlines()
        self._is_ticking = False

    def watch(self, call: Call) -> int:
        """Settle ``call`` at most two ticks after its deadline; returns a ticket."""
        if not self._is_ticking:
            self._is_ticking = True
            self._sleep()
        return self._deadlines.add(call, deadline=call.deadline)

    def forget(self, call: Call, ticket: int) -> None:
        """Stop watching; ``ticket`` is the one that ``watch`` returned."""
        self._deadlines.discard(call, ticket)

    def _sleep(self) -> None:
        asyncio.get_running_loop().call_later(self._deadlines.resolution_s, self._tick)

    def _tick(self) -> None:
        try:
            for call in self._deadlines.pop_expired(self._clock()):
                call.settle(DeadlineExceeded("there was no answer by the deadline"))
        finally:
            self._is_ticking = bool(self._deadlines)
            if self._is_ticking:
                self._sleep()
