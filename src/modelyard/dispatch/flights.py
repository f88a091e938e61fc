"""Single flight: identical requests that are in flight together share one execution.

Path of a request: ``Dispatch._fly`` joins or starts a flight, and sends its shared call. When that
settles, ``_land`` passes the outcome to ``Dispatch._on_landed``, with the calls that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import Cancelled, GivenUp
from modelyard.core.messages import Request

C = TypeVar("C", bound=Call)


class Flight(Generic[C]):
    """One shared call, and the clients' calls that wait for its outcome. It has the deadline of the
    client that started it, and is cancelled when the last client has left.

    Args:
        request: The request that they share.
        on_landed: Called with the settled shared call and the calls that still wait for it.
    """

    __slots__ = ("_on_landed", "_waiting", "shared")

    def __init__(self, request: Request, on_landed: Callable[[Call, list[C]], None]) -> None:
        self.shared = Call(request, self._land)
        self._waiting: dict[Call, C] = {}  # an ordered set
        self._on_landed = on_landed

    def join(self, call: C) -> None:
        """Let ``call`` wait for the outcome. It may be settled earlier without affecting others."""
        self._waiting[call] = call
        call.watch(self._leave)

    def _leave(self, call: Call) -> None:
        self._waiting.pop(call, None)
        if not self._waiting and self.shared.outcome is None:
            is_cancelled = isinstance(call.outcome, Cancelled)
            left = Cancelled() if is_cancelled else GivenUp("nobody waits for the answer any more")
            self.shared.settle(left)

    def _land(self, shared: Call) -> None:
        waiting, self._waiting = list(self._waiting.values()), {}
        self._on_landed(shared, waiting)


class Flights(Generic[C]):
    """All flights, by key and priority."""

    def __init__(self) -> None:
        self._flights: dict[tuple[bytes, Priority], Flight[C]] = {}

    def find(self, key: bytes, priority: Priority) -> Flight[C] | None:
        """Return a flight that a request can join: of at least its own priority."""
        return self._flights.get((key, "high")) or self._flights.get((key, priority))

    def start(
        self, key: bytes, request: Request, on_landed: Callable[[Call, list[C]], None]
    ) -> Flight[C]:
        """Start a flight that others can join until its shared call settles.

        The caller sends the shared call, and settles the calls that wait for it.
        """
        place = key, request.priority

        def land(shared: Call, waiting: list[C]) -> None:
            found = self._flights.get(place)
            if found is not None and found.shared is shared:
                del self._flights[place]
            on_landed(shared, waiting)

        self._flights[place] = Flight(request, land)
        return self._flights[place]
