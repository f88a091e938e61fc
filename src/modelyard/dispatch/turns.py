"""Turns: how many requests of one caller may wait at the model, so that others need not.

A queue in front of a model is first come, first served. So a caller who sends 10,000 requests at
once would have everybody else wait for all of them. Here each caller may have ``BATCHES`` batches
per ready runner under way; the rest waits in the gateway, and leaves as the caller's answers come.
Only callers who are known (``access``) are held back: without keys nobody can be told from another.

Requests that find no queue (``Dispatch._send``) do not take part, so a caller may have one batch
more under way when a queue begins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.names import Target
from modelyard.dispatch.entry import Entry

BATCHES = 2  # one that runs, and one that is next

Place = tuple[str, Target, Priority]
Send = Callable[[Call], None]


class Turn:
    """The requests of one caller for one target and priority."""

    __slots__ = ("is_sending", "under_way", "waiting", "weights")

    def __init__(self) -> None:
        self.is_sending = False
        self.waiting: dict[Call, None] = {}  # an ordered set
        self.weights: dict[Call, int] = {}  # instances of those under way
        self.under_way = 0  # the sum of them


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
            turn = self._turns[place] = Turn()
        call.watch(partial(self._left, place, turn, entry))
        turn.waiting[call] = None
        self._send_next(turn, entry)

    def _left(self, place: Place, turn: Turn, entry: Entry, call: Call) -> None:
        if call in turn.waiting:
            del turn.waiting[call]
        else:
            turn.under_way -= turn.weights.pop(call)
            self._send_next(turn, entry)
        if not (turn.waiting or turn.weights):
            self._turns.pop(place, None)

    def _send_next(self, turn: Turn, entry: Entry) -> None:
        """Send those whose turn it is.

        One that is refused at once leaves while it is sent. This loop then takes the next: of
        thousands that wait, each would otherwise be sent from within the one before.
        """
        if turn.is_sending:
            return
        turn.is_sending = True
        try:
            while turn.waiting and turn.under_way < BATCHES * entry.one_batch:
                call = next(iter(turn.waiting))
                # More instances than a batch holds are batches of their own: they count as one.
                weight = min(call.instances, entry.announcement.max_batch_size)
                del turn.waiting[call]
                turn.weights[call] = weight
                turn.under_way += weight
                self._send(call)
        finally:
            turn.is_sending = False
