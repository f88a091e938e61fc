"""Answers in pieces, over HTTP.

Path of a request: ``PredictEndpoint._start`` calls ``StreamStarter.start`` if the door has read
that pieces are wanted. They come to ``StreamResponse.on_pieces``, which writes them and asks for
more. The status is sent with the first piece, or with the comment that stands in for one after
``AWAKE_S``, so that what fails before has a status of its own; what fails later is told in the
stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from modelyard.access.gate import Gate
from modelyard.access.keyring import Principal
from modelyard.core.clock import Clock
from modelyard.core.errors import GivenUp, RequestError
from modelyard.core.names import Target
from modelyard.core.routes import Who
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.dispatch.streams import StreamCall, Streams
from modelyard.gateway.asked import Asked
from modelyard.gateway.counted import start_counted_stream
from modelyard.gateway.formats import StreamFormat
from modelyard.gateway.stream_writer import StreamWriter

AWAKE_S = 15.0  # a comment is sent if nothing else was for so long: proxies close what is idle

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncache-control: no-store\r\n"
    b"x-accel-buffering: no\r\nx-request-id: %b\r\n"
)

OnEnd = Callable[[ClientCall, float], None]


class StreamResponse:
    """One answer.

    Args:
        writer: Writes the response.
        written: How pieces are written.
        request_id: The request's.
        clock: For the time to the first piece.
        answer_whole: Answers a call that has failed before its first piece.
        on_end: Called with the settled call and the reading of the clock at its first piece.
    """

    def __init__(
        self,
        writer: StreamWriter,
        written: StreamFormat,
        request_id: str,
        *,
        clock: Clock,
        answer_whole: Callable[[ClientCall], None],
        on_end: OnEnd,
    ) -> None:
        self._writer = writer
        self._written = written
        self._request_id = request_id
        self._clock = clock
        self._answer_whole = answer_whole
        self._on_end = on_end
        self._call: StreamCall | None = None
        self._first_at: float | None = None
        self._owed = 0  # pieces that the client has not read, so no others were asked for
        self._awake_timer: asyncio.TimerHandle | None = None
        writer.on_drained = self._on_drained

    def begin(self, call: StreamCall) -> None:
        """Expect the pieces of a call."""
        self._call = call
        self._write_piece = partial(self._written.piece, call.entry.target)
        if call.outcome is None:
            self._stay_awake()

    def on_pieces(self, pieces: list[bytes]) -> None:
        """Write pieces."""
        if self._first_at is None:
            self._first_at = self._clock()
            self._open()
        self._writer.write(b"".join(map(self._write_piece, pieces)))
        self._stay_awake()
        self._owed += len(pieces)
        if not self._writer.is_paused:
            self._on_drained()

    def on_settled(self, call: ClientCall) -> None:
        """End the response."""
        if self._awake_timer is not None:
            self._awake_timer.cancel()
        outcome, writer = call.outcome, self._writer
        is_error = isinstance(outcome, RequestError)
        if is_error and not writer.is_open:
            self._answer_whole(call)
            return
        if isinstance(outcome, RequestError):
            if not isinstance(outcome, GivenUp):  # else the client has left
                writer.write(self._written.error(outcome, self._request_id))
                writer.close()
        else:
            self._open()
            pieces = call.stream.received if call.stream is not None else 0
            if last := self._written.end(call.entry.target, pieces=pieces):
                writer.write(last)
            writer.close()
        self._on_end(call, self._first_at if self._first_at is not None else self._clock())

    def _open(self) -> None:
        if not self._writer.is_open:
            self._writer.open(_HEAD % (self._written.media_type, self._request_id.encode()))

    def _on_drained(self) -> None:
        """Ask for as many pieces as have been written."""
        owed, self._owed = self._owed, 0
        if owed and self._call is not None and self._call.stream is not None:
            self._call.stream.grant(owed)

    def _stay_awake(self) -> None:
        if self._awake_timer is not None:
            self._awake_timer.cancel()
        self._awake_timer = asyncio.get_running_loop().call_later(AWAKE_S, self._comment)

    def _comment(self) -> None:
        self._open()
        if not self._writer.is_paused:
            self._writer.write(self._written.comment)
        self._awake_timer = None
        self._stay_awake()


class StreamStarter:
    """Begins to answer in pieces.

    Args:
        dispatch: Answers every well-formed request.
        clock: For the time to the first piece.
        gate: Says who may ask; None if everybody may.
        answer_whole: Answers a call that has failed before its first piece.
        note: Notes an answer.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        *,
        clock: Clock,
        gate: Gate | None,
        answer_whole: Callable[[Asked, ClientCall], None],
        note: Callable[[Asked, Target | None, str, float], None],
    ) -> None:
        self._dispatch = dispatch
        self._streams = Streams(
            dispatch.catalog,
            dispatch.expiry,
            send=dispatch.send_alone,
            timeout_cap_s=dispatch.timeout_cap_s,
            clock=clock,
        )
        self._clock = clock
        self._gate = gate
        self._answer_whole = answer_whole
        self._note = note

    def start(
        self,
        asked: Asked,
        ask: Ask,
        written: StreamFormat,
        principal: Principal | None,
    ) -> StreamCall:
        """Begin one answer.

        Raises:
            RequestError: See ``Streams.start``.
        """
        plan, writer = asked.plan, asked.respond
        assert isinstance(writer, StreamWriter)
        response = StreamResponse(
            writer,
            written,
            asked.request_id,
            clock=self._clock,
            answer_whole=partial(self._answer_whole, asked),
            on_end=partial(self._on_end, asked),
        )

        def begin(caller: str, who: Who) -> StreamCall:
            return self._streams.start(
                ask,
                response.on_settled,
                asked.request_id,
                on_pieces=response.on_pieces,
                form=plan.form,
                caller=caller,
                who=who,
            )

        if self._gate is not None and principal is not None:
            account = principal.account or self._gate.open_account(principal)
            call = start_counted_stream(self._dispatch, account, ask, begin, plan=plan)
        else:
            call = begin("", plan.who)
        response.begin(call)
        return call

    def _on_end(self, asked: Asked, call: ClientCall, first_at: float) -> None:
        """Note a streamed answer: how long its first piece took."""
        outcome = call.outcome
        code = outcome.code if isinstance(outcome, RequestError) else "ok"
        self._note(asked, call.entry.target, code, first_at - asked.started)
