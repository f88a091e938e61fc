"""The worker's side of streamed answers: sends pieces to the gateways that wait for them.

Path of a request: ``consumer.py`` makes a ``StreamedCall`` whose pieces come to ``_put``. Those of
one turn of the event loop leave in one message per gateway; the runner has gathered them already.
The end of a stream counts as the answer of its bundle, which is acked when that is confirmed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from random import Random

from modelyard.core.call import Call, StreamedCall
from modelyard.core.errors import Failure, GivenUp, ModelNotReady, RequestError, ShuttingDown
from modelyard.core.messages import Request
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.confirms import BlockedError, ReturnedError, UnconfirmedError
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.replies import (
    BLOCKED_RETRY_S,
    LARGEST_REPLY_BYTES,
    Delivery,
    Left,
    Replies,
)
from modelyard.transports.amqp.session import Session
from modelyard.transports.amqp.topology import REPLIES


class Outgoing:
    """One stream that this worker runs: its ``run``, how many pieces have been ``sent``, and its
    ``mark`` in notices.
    """

    __slots__ = ("call", "delivery", "key", "mark", "run", "sent")

    call: StreamedCall
    mark: bytes

    def __init__(self, delivery: Delivery, key: int, run: int) -> None:
        self.delivery = delivery
        self.key = key
        self.run = run
        self.sent = 0


class PieceSender:
    """The streams of one session with the broker.

    Args:
        session: The session of the deliveries.
        replies: Acks bundles.
        address: Where this worker gets notices.
        chance: For the numbers of runs.
    """

    def __init__(self, session: Session, replies: Replies, *, address: str, chance: Random) -> None:
        self._open: dict[bytes, Outgoing] = {}
        self._chance = chance
        self._session = session
        self._replies = replies
        self._address = address
        self._waiting: dict[Outgoing, envelope.Piece] = {}
        self._is_scheduled = False

    def make_call(self, delivery: Delivery, item: envelope.Item, request: Request) -> StreamedCall:
        """Return the call of a request whose answer is wanted in pieces."""
        stream = Outgoing(delivery, item.key, self._chance.getrandbits(62))
        stream.mark = envelope.mark(delivery.reply_to, item.key)
        stream.call = StreamedCall(
            request, partial(self._on_settled, stream), partial(self._put, stream)
        )
        self._open[stream.mark] = stream
        return stream.call

    def grant(self, mark: bytes, pieces: int) -> None:
        """Let a stream give so many more."""
        stream = self._open.get(mark)
        if stream is not None and stream.call.stream is not None:
            stream.call.stream.grant(pieces)

    def _on_settled(self, stream: Outgoing, call: Call) -> None:
        """Send the end of a stream."""
        self._open.pop(stream.mark, None)
        outcome = call.outcome
        if isinstance(outcome, GivenUp):
            if isinstance(outcome, Left):
                self._waiting.pop(stream, None)
                self._replies.answered({stream.delivery: 1})
        elif isinstance(outcome, ShuttingDown | ModelNotReady) and not stream.sent:
            self._replies.give_back(stream.delivery)
        else:
            failure = outcome.to_failure() if isinstance(outcome, RequestError) else None
            self._put(stream, [], is_last=True, failure=failure)

    def _put(
        self,
        stream: Outgoing,
        pieces: list[bytes],
        *,
        is_last: bool = False,
        failure: Failure | None = None,
    ) -> None:
        waits = self._waiting.get(stream)
        first, before = (stream.sent, []) if waits is None else (waits.first, waits.pieces)
        self._waiting[stream] = envelope.Piece(
            stream.key, stream.run, first, before + pieces, is_last, failure
        )
        stream.sent += len(pieces)
        self._schedule(0.0)

    def _schedule(self, delay_s: float) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(delay_s, self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._replies.is_abandoned:
            self._waiting.clear()
            return
        if self._session.publishing.is_blocked:  # they come no further than the window allows
            self._schedule(BLOCKED_RETRY_S)
            return
        waiting, self._waiting = self._waiting, {}
        messages: dict[str, list[tuple[Outgoing, envelope.Piece]]] = {}
        sizes: Counter[str] = Counter()
        for stream, piece in waiting.items():
            to = stream.delivery.reply_to
            size = sum(map(len, piece.pieces))
            if sizes[to] and sizes[to] + size > LARGEST_REPLY_BYTES:
                self._send(to, messages.pop(to))
                sizes[to] = 0
            messages.setdefault(to, []).append((stream, piece))
            sizes[to] += size
        for to, some in messages.items():
            self._send(to, some)

    def _send(self, reply_to: str, some: list[tuple[Outgoing, envelope.Piece]]) -> None:
        confirmed = self._session.publishing.publish(
            envelope.encode([piece for _, piece in some]),
            exchange=REPLIES,
            routing_key=reply_to,
            properties=Properties(message_type=envelope.PIECES, reply_to=self._address),
        )
        streams = [stream for stream, _ in some]
        ended = [stream.delivery for stream, piece in some if piece.is_last]
        confirmed.add_done_callback(partial(self._on_confirmed, streams, ended))

    def _on_confirmed(
        self, streams: list[Outgoing], ended: list[Delivery], confirmed: asyncio.Future[None]
    ) -> None:
        """Ack what has ended. If the gateway is gone, nobody waits for its streams."""
        error = confirmed.exception()
        if isinstance(error, ReturnedError):
            for stream in streams:
                stream.call.settle(Left("the gateway that asked is gone"))
        elif error is not None and (
            isinstance(error, UnconfirmedError) or not isinstance(error, BlockedError)
        ):
            self._session.lose(str(error))
            return
        # What was sent when an alarm began arrives once it is over.
        self._replies.answered(Counter(ended))
