"""The gateway's side of streamed answers: pieces from workers go to the calls that wait for them.

Path of a request: ``AmqpTransport._on_reply`` passes messages of pieces to ``on_pieces``. The first
that comes for a request ties it to the run that it is of. If the worker dies, the broker gives the
request to another one, which runs it again: its pieces are of another run, so the answer ends there
with an error, for the client has some of the first. What comes for no call is told to leave.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from modelyard.core.call import Call
from modelyard.core.errors import Cancelled, RequestError, StreamBroken, from_failure
from modelyard.core.messages import Progress
from modelyard.core.stream import ENDED
from modelyard.dispatch.interfaces import OnProgress
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.lanes import Pending
from modelyard.transports.amqp.notices import Notices, address_of
from modelyard.transports.amqp.parser import Message

log = logging.getLogger(__name__)


class _Run(NamedTuple):
    number: int
    worker: str  # the address of its notices


class IncomingStreams:
    """The streams of one gateway.

    Args:
        pending: Its unanswered requests.
        notices: Tells workers what they need to know.
        on_progress: Told how far models are.
    """

    def __init__(
        self, pending: Mapping[int, Pending], notices: Notices, on_progress: OnProgress
    ) -> None:
        self._on_progress = on_progress
        self._pending = pending
        self._notices = notices
        self._runs: dict[int, _Run] = {}
        self._ended: Pending | None = None
        self._reply_to = ""

    def open(self, reply_to: str) -> None:
        """Note where the answers of a new session come in."""
        self._reply_to = reply_to

    def on_progress(self, message: Message) -> None:
        """Pass on how far models are.

        Raises:
            msgspec.MsgspecError: It cannot be read.
        """
        for share in envelope.decode_shares(message.body):
            if (pending := self._pending.get(share.key)) is not None:
                progress = Progress(share.fraction, share.message)
                self._on_progress(pending.call.request.id, progress)

    def on_pieces(self, message: Message) -> None:
        """Pass pieces on.

        Raises:
            msgspec.MsgspecError: They cannot be read.
        """
        worker = message.properties.reply_to or ""
        for piece in envelope.decode_pieces(message.body):
            self._on_piece(piece, worker)

    def _on_piece(self, piece: envelope.Piece, worker: str) -> None:
        pending = self._pending.get(piece.key)
        stream = None if pending is None else pending.call.stream
        if pending is None or stream is None:
            if not piece.is_last and worker:
                self._notices.leave(worker, self._mark(piece.key))
            return
        run = self._runs.get(piece.key)
        if run is None:
            run = self._runs[piece.key] = _Run(piece.run, worker)
            stream.ask_more = partial(self._notices.grant, worker, self._mark(piece.key))
        call = pending.call
        if run.number != piece.run:
            call.settle(StreamBroken("the worker that answered is gone"))
        elif not stream.put(piece.first, piece.pieces):
            call.settle(StreamBroken("pieces of the answer were lost"))
        elif piece.is_last:
            self._ended = pending
            call.settle(ENDED if piece.failure is None else from_failure(piece.failure))

    def drop(self, pending: Pending) -> bool:
        """Drop a request; returns whether its worker has ended it."""
        stream = pending.call.stream
        if self._runs.pop(pending.key, None) is not None and stream is not None:
            stream.ask_more = None  # a slow reader may still take what is here
        is_ended = pending is self._ended
        if is_ended:
            self._ended = None
        return is_ended

    def left(self, pending: Pending) -> None:
        """Tell the workers that nobody waits for a request any more, which they may have."""
        if self.drop(pending):
            return  # they know
        is_cancelled = isinstance(pending.call.outcome, Cancelled)
        address = address_of(pending.lane.target)
        self._notices.leave(address, self._mark(pending.key), is_cancelled=is_cancelled)

    def break_off(self) -> None:
        """End what has begun: the session is lost, and with it pieces."""
        for pending in list(self._pending.values()):
            if is_begun(pending.call):
                pending.call.settle(StreamBroken("the broker was lost amid the answer"))

    def _mark(self, key: int) -> bytes:
        return envelope.mark(self._reply_to, key)


def is_begun(call: Call) -> bool:
    """Return whether a call has pieces, so that it cannot be sent again."""
    return call.stream is not None and call.stream.received > 0


def give_up(call: Call, why: RequestError) -> None:
    """Settle a call whose bundle the broker has lost."""
    is_broken = is_begun(call)
    call.settle(StreamBroken("the worker that answered has lost its queue") if is_broken else why)
