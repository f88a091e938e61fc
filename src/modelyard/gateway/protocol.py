"""The protocol of a connection: uvicorn's, with the limits on headers that it lacks, and short ways
in and out for requests that come whole.

On the way of a request: ``data_received`` starts the ASGI application in a task (``app.py``, then
``predict.py``); its answer comes back to ``_respond``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from modelyard.core.errors import Malformed, RequestError, TooSlow
from modelyard.gateway.problems import MEDIA_TYPE, problem_of
from modelyard.gateway.types import Scope

MAX_HEADER_BYTES = 32 * 1024
KEEP_ALIVE_S = 75
LINGER_S = 0.5
MOST_KNOWN_HEADS = 512
LONGEST_KNOWN_HEAD_BYTES = 2048


class HeadersTooLarge(RequestError):
    """The request's line and headers are over the limit."""

    code = "headers_too_large"


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
    """A request line and headers that were parsed before. ``size``: with the body, in bytes."""

    scope: Scope
    size: int


class LimitedProtocol(HttpToolsProtocol):
    """Bounds the size of a request's headers and the time they take; offers shorter ways.

    A client that keeps its connection sends the same line and headers again and again. Whoever
    comes whole in one read, to the hot path, with a head that is known byte by byte, needs no
    parser: that was 15 % of the gateway's time under load.
    """

    header_timeout_s = 10.0
    known_heads: ClassVar[dict[bytes, KnownHead]] = {}
    dated: ClassVar[list[tuple[bytes, bytes]]] = []
    date_lines: ClassVar[bytes] = b""
    outboxes: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox]] = WeakKeyDictionary()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._is_in_headers = True
        self._header_timer: asyncio.TimerHandle | None = None
        self._refusal: RequestError | None = None
        self._is_busy = self._is_leaving = False
        self._quiet_since = self.loop.time()
        self._outbox = self.outboxes.setdefault(self.loop, Outbox(self.loop))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever (called by the loop)."""
        super().connection_made(transport)
        self._start_header_timer()
        self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_S, self._on_quiet)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection (called by the loop)."""
        self._stop_header_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives (called by the loop)."""
        is_start = self._is_in_headers and not self._header_bytes
        if is_start and not self._is_busy:
            head = data[: data.find(b"\r\n\r\n") + 4]
            known = self.known_heads.get(head)
            if known is not None and len(data) == known.size and not self._is_leaving:
                self._start_known(known, data[len(head) :])
                return
        if self._is_in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if is_start and self._is_in_headers and not self._header_bytes:
            self._learn(data)
        if self._is_in_headers and self._header_bytes:
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLarge(f"headers may have {MAX_HEADER_BYTES} bytes"))
            elif self._header_timer is None:
                self._start_header_timer()

    def on_headers_complete(self) -> None:
        """Start the request, if its headers are within the limit (called by the parser)."""
        if self._header_bytes > MAX_HEADER_BYTES:  # of headers, or of the body that came with them
            size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
            if size > MAX_HEADER_BYTES:
                self._refusal = HeadersTooLarge(f"headers may have {MAX_HEADER_BYTES} bytes")
                raise self._refusal  # the parser stops, and send_400_response is called
        self._is_in_headers = False
        self._header_bytes = 0
        self._stop_header_timer()
        super().on_headers_complete()
        self.scope["modelyard.respond"] = partial(self._respond, self.cycle)  # type: ignore[typeddict-unknown-key]
        if self._is_leaving:
            self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """Note that a request has begun (called by the parser)."""
        self._is_busy = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Expect the next request's headers (called by the parser)."""
        super().on_message_complete()
        self._is_in_headers = True
        self.scope["modelyard.is_whole"] = True  # type: ignore[typeddict-unknown-key]

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one (called when a response is sent).

        One timer for the connection takes the place of uvicorn's, which is set and cancelled with
        every request.
        """
        self.server_state.total_requests += 1
        self._is_busy = bool(self.pipeline)
        self._quiet_since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def _unset_keepalive_if_required(self) -> None:
        """Leave the timer alone (called by uvicorn)."""

    def _on_quiet(self) -> None:
        """Close the connection if nothing was asked for ``KEEP_ALIVE_S``, else look again."""
        left_s = self._quiet_since + KEEP_ALIVE_S - self.loop.time()
        if self._is_busy or left_s > 0:
            wait_s = KEEP_ALIVE_S if self._is_busy else left_s
            self.timeout_keep_alive_task = self.loop.call_later(wait_s, self._on_quiet)
        else:
            self.timeout_keep_alive_handler()

    def _learn(self, data: bytes) -> None:
        """Remember the head of a request that came whole, if such a one can be known again."""
        if self.scope["path"] != "/predict" or self.scope["method"] != "POST":
            return
        head_bytes = data.find(b"\r\n\r\n") + 4
        headers = dict(self.headers)
        is_plain = (
            self.cycle.keep_alive
            and head_bytes <= LONGEST_KNOWN_HEAD_BYTES
            and headers.get(b"content-length") == b"%d" % (len(data) - head_bytes)
            and not headers.keys() & {b"expect", b"transfer-encoding", b"upgrade"}
        )
        if is_plain:
            if len(self.known_heads) >= MOST_KNOWN_HEADS:
                self.known_heads.clear()
            scope: Scope = {**self.scope}
            scope.pop("modelyard.respond", None)
            self.known_heads[data[:head_bytes]] = KnownHead(scope, len(data))

    def _start_known(self, known: KnownHead, body: bytes) -> None:
        """Start a request whose head was parsed before: what uvicorn does with a new one."""
        self._is_busy = True
        self._stop_header_timer()
        self.scope = {**known.scope, "client": self.client, "server": self.server}  # type: ignore[typeddict-item]
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        self.cycle.body += body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self.scope["modelyard.respond"] = partial(self._respond, self.cycle)  # type: ignore[typeddict-unknown-key]
        self._start_asgi_task(self.cycle, self.app)

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed (called by uvicorn)."""
        self._refuse(self._refusal or Malformed(msg))

    def _respond(self, cycle: RequestResponseCycle, head: bytes, body: bytes) -> bool:
        """Send a whole response in one write; False: it has to go the ordinary way.

        ``head`` is status line and headers without the blank line. uvicorn's own way checks every
        header by regular expressions and writes head and body apart: a third of its time per
        request, a system call, and another wake-up of the client.
        """
        if not cycle.keep_alive or cycle.disconnected or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        self._outbox.add(self.transport, b"%b%b\r\n%b" % (head, self._date_lines(), body))
        cycle.on_response()
        return True

    def shutdown(self) -> None:
        """Finish, then close (called by uvicorn when the server stops).

        A connection that is idle now may have a request under way to us: it is not closed at once,
        but answers one more with ``connection: close``, so that the client knows.
        """
        self._outbox.flush()
        self._is_leaving = True
        if self._is_busy:
            super().shutdown()
        else:
            self.loop.call_later(LINGER_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._is_busy:
            self.transport.close()

    def _date_lines(self) -> bytes:
        """Give the headers that every response has; they change once a second."""
        headers = self.server_state.default_headers
        if headers is not LimitedProtocol.dated:
            lines = [b"%b: %b\r\n" % header for header in headers]
            LimitedProtocol.dated, LimitedProtocol.date_lines = headers, b"".join(lines)
        return LimitedProtocol.date_lines

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._on_header_timeout)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        if self._header_bytes == 0:
            self.transport.close()  # it never asked anything: an answer would puzzle it
        else:
            limit = f"{self.header_timeout_s:g} s"
            self._refuse(TooSlow(f"the headers were not complete after {limit}"))

    def _refuse(self, error: RequestError) -> None:
        """Answer outside of any request cycle, and close."""
        if self.transport.is_closing():
            return
        problem = problem_of(error, request_id="-")
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(problem.body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + problem.body)
        self.transport.close()
