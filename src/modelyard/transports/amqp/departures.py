"""A worker's side of notices (``notices.py``): it drops the requests whose callers have left, those
that are here and those that still come, and lets streams go on.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import msgspec

from modelyard.core.call import Call
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.notices import address_of
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.pieces import PieceSender
from modelyard.transports.amqp.replies import Delivery, JobCancelled, Left, Replies
from modelyard.transports.amqp.session import Broker, Session
from modelyard.transports.amqp.topology import NOTICES, declare_own_queue

MOST_LEFT = 50_000  # requests that are remembered, since they may still come
REMEMBER_S = 120.0


class Departures:
    """The notices to one worker.

    Args:
        broker: The broker, and our identity there.
        target: The target that it serves.
    """

    def __init__(self, broker: Broker, target: Target) -> None:
        self._broker = broker
        self._target = target
        self._left: OrderedDict[bytes, float] = OrderedDict()  # by mark, since when

    async def open(self, session: Session, replies: Replies) -> PieceSender:
        """Receive notices by a session, and return what sends the pieces of its streams."""
        address = self._broker.new_name("notices")
        pieces = PieceSender(session, replies, address=address, chance=self._broker.chance)
        bindings = [(NOTICES, address_of(self._target)), (NOTICES, address)]
        await declare_own_queue(session.consuming, address, bindings)
        handler = partial(self._on_notice, replies, pieces)
        await session.consuming.consume(address, handler, no_ack=True)
        return pieces

    def drop(self, delivery: Delivery) -> None:
        """Settle the calls of a new delivery whose callers have left."""
        if not self._left:
            return
        for key, call in list(delivery.calls.items()):
            if self._left.pop(envelope.mark(delivery.reply_to, key), None) is not None:
                self._drop_call(call)

    def _on_notice(self, replies: Replies, pieces: PieceSender, message: Message) -> None:
        try:
            notice = envelope.decode_notice(message.body)
        except msgspec.MsgspecError:
            return  # damaged; so the requests run although nobody waits
        for mark, more in notice.granted:
            pieces.grant(mark, more)
        here = replies.find(set(notice.left)) if notice.left else {}
        for mark in notice.left:
            if (call := here.get(mark)) is not None:
                self._drop_call(call, is_cancelled=mark in notice.cancelled)
            else:
                self._remember(mark)

    def _drop_call(self, call: Call, *, is_cancelled: bool = False) -> None:
        self._broker.metrics.broker_event("departed")
        call.settle(JobCancelled() if is_cancelled else Left("the caller has left"))

    def _remember(self, mark: bytes) -> None:
        now = self._broker.clock()
        self._left[mark] = now
        while len(self._left) > MOST_LEFT or next(iter(self._left.values())) < now - REMEMBER_S:
            self._left.popitem(last=False)
