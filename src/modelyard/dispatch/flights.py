"""Single flight: identical requests that are under way together share one execution."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Waiter = asyncio.Future[bytes]


class Flight:
    """One execution and all who wait for it. It is cancelled when the last of them has left."""

    __slots__ = ("_on_landed", "_waiters", "execution")

    def __init__(self, execution: Waiter, on_landed: Callable[[Waiter], None]) -> None:
        self.execution = execution
        self._waiters: set[Waiter] = set()
        self._on_landed = on_landed
        execution.add_done_callback(self._land)

    def join(self) -> Waiter:
        """Give a future of the caller's own: cancelling it disturbs nobody else."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        self._waiters.discard(waiter)
        if not self._waiters and not self.execution.done():
            self.execution.cancel()

    def _land(self, execution: Waiter) -> None:
        self._on_landed(execution)
        error = None if execution.cancelled() else execution.exception()
        for waiter in self._waiters:
            if waiter.done():
                continue
            if execution.cancelled():
                waiter.cancel()
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(execution.result())


class Flights:
    """The flights under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def find(self, key: bytes) -> Flight | None:
        """Give the flight that a request with this key can join."""
        flight = self._flights.get(key)
        # One whose last waiter has just left is cancelled, and not yet gone: nobody may join it.
        return None if flight is None or flight.execution.cancelled() else flight

    def start(self, key: bytes, execution: Waiter, landed: Callable[[Waiter], None]) -> Flight:
        """Let others join ``execution`` until it is done; ``landed`` is then called with it."""

        def on_landed(execution: Waiter) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            landed(execution)

        flight = self._flights[key] = Flight(execution, on_landed)
        return flight
