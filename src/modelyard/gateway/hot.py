"""The hot path through the protocol: an ordinary ``POST /predict`` needs no task and no ASGI.

On the way of a request: ``HotProtocol`` reads it and calls ``PredictEndpoint.begin``
(``predict.py``), which calls ``_respond`` with the answer when there is one. Whatever is not
ordinary (compressed, chunked, large JSON, pipelined, not to be kept alive) goes through ASGI.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from modelyard.core.call import Call
from modelyard.core.errors import GivenUp, Overloaded, RequestError, TooSlow
from modelyard.gateway.direct import DIRECT_BYTES, DirectReader
from modelyard.gateway.predict import PATH, Plan, PredictEndpoint
from modelyard.gateway.protocol import LimitedProtocol, new_parser
from modelyard.gateway.types import App

MOST_KNOWN_HEADS = 512
LONGEST_KNOWN_HEAD_BYTES = 2048


class Outbox:
    """Writes the responses of one turn of the loop together, at its end.

    Written one by one, with our work between them, each wakes the client's process anew, and a
    wake-up costs more than the work.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kept: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send ``data`` when all that is ready to run now has run."""
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append((transport, data))

    def flush(self) -> None:
        """Send all that is kept."""
        kept, self._kept = self._kept, []
        for transport, data in kept:
            if not transport.is_closing():
                transport.write(data)


class KnownHead(NamedTuple):
    """A request line and headers that were parsed before."""

    plan: Plan
    body_bytes: int


class HotProtocol(LimitedProtocol):
    """Answers what is ordinary by itself.

    ``_is_hot``: a request that is ours, and not ASGI's, waits for its answer.

    A client that keeps its connection sends the same line and headers again and again: a head that
    is known byte by byte is not even parsed. That was 15 % of the gateway's time under load.
    """

    endpoint: ClassVar[PredictEndpoint]
    known_heads: ClassVar[dict[bytes, KnownHead]] = {}
    dated: ClassVar[list[tuple[bytes, bytes]]] = []
    date_lines: ClassVar[bytes] = b""
    outboxes: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox]] = WeakKeyDictionary()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbox = self.outboxes.setdefault(self.loop, Outbox(self.loop))
        self._read = b""  # what has just been read, if a request begins with it
        self._plan: Plan | None = None  # of the request whose body is being read
        self._pieces: list[bytes] = []
        self._reader: DirectReader | None = None
        self._is_hot = False
        self._call: Call | None = None
        self._room = 0  # of the budget for bodies

    def data_received(self, data: bytes) -> None:
        """Answer at once what is known, and parse the rest (called by the loop)."""
        if self._is_between and not self._is_busy:
            head = data[: data.find(b"\r\n\r\n") + 4]
            known = self.known_heads.get(head)
            if known is not None and len(data) == len(head) + known.body_bytes and self._may_be_hot:
                self._is_busy = True
                self._stop_timer()
                self._start(known.plan, data[len(head) :])
                return
            self._read = data
        super().data_received(data)
        self._read = b""
        if self._plan is not None:
            self._await_body(self._plan)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the client waited for (called by the loop)."""
        super().connection_lost(exc)
        self._plan = None
        self._give_room_back()
        self._reader = None
        call, self._call = self._call, None
        if call is not None:
            call.settle(GivenUp("the client has left"))

    def _await_body(self, plan: Plan) -> None:
        """Wait for the rest of a body, but not for ever."""
        if self._timer is None:
            self._start_timer(self.endpoint.body_timeout_s, self._on_body_timeout)
        if plan.body_bytes - sum(map(len, self._pieces)) > DIRECT_BYTES:
            if self._reader is None:
                self._reader = DirectReader(self)
                self.transport.set_protocol(self._reader)
            self._reader.expect(plan.body_bytes, self._pieces, self._on_whole_body)
            self._pieces.clear()

    def _on_whole_body(self, body: bytearray) -> None:
        """Start on a request whose body went past the parser, which still waits for it."""
        self.parser = new_parser(self)
        if self._plan is not None:  # else it was refused meanwhile
            self._on_request(self._plan, body)

    @property
    def _may_be_hot(self) -> bool:
        """Whether an answer could be sent at once, and no other is to be sent before."""
        return not (self._is_answering or self._is_leaving or self.flow.write_paused)

    @property
    def _is_answering(self) -> bool:
        return self._is_hot or super()._is_answering

    def _on_headers(self) -> None:
        parser = self.parser
        is_ordinary = (
            self.url == PATH
            and self._may_be_hot
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )
        self._plan = self.endpoint.plan_of(dict(self.headers)) if is_ordinary else None
        if self._plan is not None:
            try:
                self._room = self.endpoint.budget.take(self._plan.body_bytes)
            except Overloaded:
                self._plan = None  # it is refused on the other way
        if self._plan is None:
            super()._on_headers()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body (called by the parser)."""
        if self._plan is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Start on the request, if it is ours (called by the parser)."""
        plan = self._plan
        if plan is None:
            super().on_message_complete()
            return
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if plan.is_reusable and not self._room:
            self._learn(plan, body)
        self._on_request(plan, body)

    def _on_request(self, plan: Plan, body: bytes | bytearray) -> None:
        """Start on a request that is here in whole."""
        self._plan = None
        self._is_in_headers = self._is_between = True
        self._stop_timer()
        self._start(plan, body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: App) -> None:  # type: ignore[override]
        """Start a request that goes through ASGI, behind ours if one is under way."""
        if self._is_hot:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))  # type: ignore[arg-type]
        else:
            super()._start_asgi_task(cycle, app)

    def _learn(self, plan: Plan, body: bytes) -> None:
        """Remember the head of a request that came whole, in one piece."""
        head_bytes = len(self._read) - len(body)
        is_whole = self._read[:head_bytes].find(b"\r\n\r\n") == head_bytes - 4
        if is_whole and 0 < head_bytes <= LONGEST_KNOWN_HEAD_BYTES:
            if len(self.known_heads) >= MOST_KNOWN_HEADS:
                self.known_heads.clear()
            self.known_heads[self._read[:head_bytes]] = KnownHead(plan, len(body))

    def _start(self, plan: Plan, body: bytes | bytearray) -> None:
        self._is_hot = True
        call = self.endpoint.begin(plan, body, self._respond)
        if self._is_hot:  # not answered yet
            self._call = call

    def _respond(self, head: bytes, body: bytes) -> None:
        """Send a whole response in one write.

        ``head`` is status line and headers without the blank line. uvicorn's own way checks every
        header by regular expressions and writes head and body apart: a third of its time per
        request, a system call, and another wake-up of the client.
        """
        self._call, self._is_hot = None, False
        self._give_room_back()
        if self._is_leaving:
            head += b"connection: close\r\n"
        self._outbox.add(self.transport, b"%b%b\r\n%b" % (head, self._date_lines(), body))
        if self._is_leaving:
            self._outbox.flush()
            self.transport.close()
        self.on_response_complete()

    def _give_room_back(self) -> None:
        if self._room:
            self.endpoint.budget.give_back(self._room)
            self._room = 0

    def _on_body_timeout(self) -> None:
        limit = f"{self.endpoint.body_timeout_s:g} s"
        self._refuse_unread(TooSlow(f"the body was not complete after {limit}"))

    def _refuse_unread(self, error: RequestError) -> None:
        """Answer a request whose body is still being read, and close: the rest is not worth it."""
        self._is_leaving, self._plan = True, None
        self.endpoint.refuse(error, self._respond)

    def shutdown(self) -> None:
        """Finish, then close (called by uvicorn when the server stops)."""
        self._outbox.flush()
        if self._is_hot or self._plan is not None:
            self._is_leaving = True
        else:
            super().shutdown()

    def _refuse(self, error: RequestError) -> None:
        self._outbox.flush()
        is_last = all(cycle.more_body for cycle, _ in self.pipeline)
        if self._is_hot and is_last:  # its answer comes first, and closes
            self._is_leaving = True
            self._stop_timer()
            self.flow.pause_reading()
        else:
            super()._refuse(error)

    def give_up(self, error: RequestError) -> None:
        """Answer what is under way with ``error``: the server does not wait any longer."""
        if self._call is not None:
            self._call.settle(error)
        elif self._plan is not None:
            self._refuse_unread(error)

    def _date_lines(self) -> bytes:
        """Give the headers that every response has; they change once a second."""
        headers = self.server_state.default_headers
        if headers is not HotProtocol.dated:
            lines = [b"%b: %b\r\n" % header for header in headers]
            HotProtocol.dated, HotProtocol.date_lines = headers, b"".join(lines)
        return HotProtocol.date_lines
