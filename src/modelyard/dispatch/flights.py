"""Single flight: identical requests that are under way together share one execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import GivenUp
from modelyard.core.messages import Request

C = TypeVar("C", bound=Call)


class Flight(Generic[C]):
    """One shared call, and the clients' calls that wait for its outcome. It is given up when the
    last of them has left, and has the deadline of the client that started it.

    Args:
        request: What is asked.
        on_landed: Called with the settled shared call and those that still wait for it.
    """

    __slots__ = ("_on_landed", "_waiting", "shared")

    def __init__(self, request: Request, on_landed: Callable[[Call, list[C]], None]) -> None:
        self.shared = Call(request, self._land)
        self._waiting: dict[Call, C] = {}  # a set that keeps the order in which they came
        self._on_landed = on_landed

    def join(self, call: C) -> None:
        """Let ``call`` wait for the outcome; settled earlier, it disturbs nobody else."""
        self._waiting[call] = call
        call.watch(self._leave)

    def _leave(self, call: Call) -> None:
        self._waiting.pop(call, None)
        if not self._waiting and self.shared.outcome is None:
            self.shared.settle(GivenUp("nobody waits any more"))

    def _land(self, shared: Call) -> None:
        waiting, self._waiting = list(self._waiting.values()), {}
        self._on_landed(shared, waiting)


class Flights(Generic[C]):
    """The flights under way, by key and priority."""

    def __init__(self) -> None:
        self._flights: dict[tuple[bytes, Priority], Flight[C]] = {}

    def find(self, key: bytes, priority: Priority) -> Flight[C] | None:
        """Give the flight that a request can join: one that is at least as urgent."""
        return self._flights.get((key, "high")) or self._flights.get((key, priority))

    def start(
        self, key: bytes, request: Request, on_landed: Callable[[Call, list[C]], None]
    ) -> Flight[C]:
        """Give a flight that others can join until its shared call is settled.

        The caller sends the shared call, and tells those who wait.
        """
        place = key, request.priority

        def land(shared: Call, waiting: list[C]) -> None:
            found = self._flights.get(place)
            if found is not None and found.shared is shared:
                del self._flights[place]
            on_landed(shared, waiting)

        self._flights[place] = Flight(request, land)
        return self._flights[place]
