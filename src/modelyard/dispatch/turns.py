"""Turns: how many requests of one caller may wait at the model, so that others need not.

A queue in front of a model is first come, first served. So a caller who sends 10,000 requests at
once would have everybody else wait for all of them. Here each caller may have ``BATCHES`` batches
per ready runner under way; the rest waits in the gateway, and leaves as the caller's answers come.
Only callers who are known (``access``) are held back: without keys nobody can be told from another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Entry

BATCHES = 2  # one that runs, and one that is next

Place = tuple[str, Target, Priority]
Send = Callable[[Call], None]


class Turn:
    """The requests of one caller for one target and priority.

    Args:
        entry: The target, as the catalog has it.
        send: Sends a call on.
    """

    __slots__ = ("_entry", "_send", "_under_way", "_waiting", "_weights")

    def __init__(self, entry: Entry, send: Send) -> None:
        self._entry = entry
        self._send = send
        self._weights: dict[Call, int] = {}  # of those under way
        self._under_way = 0  # the sum of them
        self._waiting: dict[Call, None] = {}  # an ordered set

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or is under way."""
        return not (self._waiting or self._weights)

    def enter(self, call: Call) -> None:
        """Send a call, now or when it is its turn."""
        if self._waiting or not self._is_room(call):
            self._waiting[call] = None
        else:
            self._depart(call)

    def left(self, call: Call) -> None:
        """Note that a call is settled, and send those whose turn it is."""
        if call in self._waiting:
            del self._waiting[call]
            return
        self._under_way -= self._weights.pop(call)
        while self._waiting and self._is_room(following := next(iter(self._waiting))):
            del self._waiting[following]
            self._depart(following)

    def _depart(self, call: Call) -> None:
        weight = self._weights[call] = self._weigh(call)
        self._under_way += weight
        self._send(call)

    def _is_room(self, call: Call) -> bool:
        announcement = self._entry.announcement
        most = BATCHES * announcement.max_batch_size * max(1, announcement.runners_ready)
        return not self._weights or self._under_way + self._weigh(call) <= most

    def _weigh(self, call: Call) -> int:
        """Return the instances of a call, at most a batch."""
        return min(call.instances, self._entry.announcement.max_batch_size)


class Turns:
    """The turns of all callers.

    Args:
        send: Sends a call to the transport; never raises.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._turns: dict[Place, Turn] = {}

    def enter(self, entry: Entry, call: Call) -> None:
        """Send a call, now or when it is its caller's turn."""
        place = call.request.caller, entry.target, call.priority
        turn = self._turns.get(place)
        if turn is None:
            turn = self._turns[place] = Turn(entry, self._send)
        call.watch(partial(self._left, place, turn))
        turn.enter(call)

    def _left(self, place: Place, turn: Turn, call: Call) -> None:
        turn.left(call)
        if turn.is_empty and self._turns.get(place) is turn:
            del self._turns[place]
