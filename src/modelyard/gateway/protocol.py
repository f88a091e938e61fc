"""The protocol of a connection: uvicorn's, with limits on headers and an end that clients hear of.

What is asked on the hot path takes a shorter way: see ``hot.py``, the next stop of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios
from array import array
from collections import deque
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from modelyard.core.errors import Malformed, RequestError, TooSlow
from modelyard.gateway.problems import MEDIA_TYPE, problem_of
from modelyard.gateway.types import App

MAX_HEADER_BYTES = 32 * 1024
KEEP_ALIVE_S = 75
IDLE_LINGER_S = 0.5
STALLED_S = 30.0  # who takes nothing of an answer for so long is not there
MOST_PIPELINED = 256  # requests that one connection may have waiting behind the one under way
# What may surround a chunked body: more than is read at once, for its head comes with other things;
# and each byte of the body earns some of it back: a chunk of one has 6 around it.
FRAMING_BYTES = 320 * 1024
FRAMING_OF_BYTE = 8


def new_parser(protocol: HttpToolsProtocol) -> HttpRequestParser:
    """Give a parser, set as uvicorn sets it."""
    parser = HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


class HeadersTooLarge(RequestError):
    """The request's line and headers are over the limit."""

    code = "headers_too_large"


class LimitedProtocol(HttpToolsProtocol):
    """Bounds the size of a request's headers and the time they take.

    Of a connection it is known whether the head of a request is incomplete (``_is_in_headers``),
    whether no byte of the next one has been parsed (``_is_between``), whether keep-alive must not
    close it (``_is_busy``), and whether it closes after the next answer (``_is_leaving``).
    """

    header_timeout_s = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._is_in_headers = True
        self._is_between = True
        self._is_chunked = False  # a body that is being read
        self._framing_left = 0  # bytes that may still come of it
        self._running: RequestResponseCycle | None = None  # by ASGI; the newest may wait behind it
        self._timer: asyncio.TimerHandle | None = None  # of what the client is to send
        self._stall: asyncio.TimerHandle | None = None  # of what it is to read
        self._refusal: RequestError | None = None
        self._is_busy = False
        self._is_leaving = False
        self._quiet_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever (called by the loop)."""
        super().connection_made(transport)
        self._start_timer(self.header_timeout_s, self._on_header_timeout)
        self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_S, self._on_quiet)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection (called by the loop)."""
        self._stop_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if self._stall is not None:
            self._stall.cancel()
        self.pipeline.clear()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch whether the client reads at all (called by the loop)."""
        super().pause_writing()
        self._watch_stall(-1)

    def resume_writing(self) -> None:
        """Go on writing (called by the loop)."""
        super().resume_writing()
        if self._stall is not None and not self.transport.is_closing():
            self._stall.cancel()
            self._stall = None

    def _watch_stall(self, unread_before: int) -> None:
        """Give the client up if it has read nothing since the last look."""
        unread = self.transport.get_write_buffer_size() + self._unread_in_kernel()
        if unread == unread_before:
            self.transport.abort()
        else:
            self._stall = self.loop.call_later(STALLED_S, self._watch_stall, unread)

    def _unread_in_kernel(self) -> int:
        """Give how much waits there: megabytes may, and our buffer not change for a minute."""
        size = array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, size)
        return size[0]

    def data_received(self, data: bytes) -> None:
        """Parse what arrives (called by the loop)."""
        if self._is_in_headers:
            self._header_bytes += len(data)
        self._parse(data)
        if self._is_chunked:
            self._framing_left -= len(data)
            if self._framing_left < 0:
                self._refuse(HeadersTooLarge("there is too much around the body"))
        if self._is_in_headers and not self._is_between:
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLarge(f"headers may have {MAX_HEADER_BYTES} bytes"))
            elif self._timer is None:
                self._start_timer(self.header_timeout_s, self._on_header_timeout)

    def _parse(self, data: bytes) -> None:
        """Parse, and read a request that offers another protocol as if it did not: the parser would
        skip its body. Java's own client offers HTTP/2 with its first request.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                if self.transport.is_closing() or not self._is_upgrade:
                    return
                data = self._plain_head() + data[upgrade.args[0] :]
                self.parser = new_parser(self)
            except HttpParserError:
                self.send_400_response("this is no HTTP")
                return
            else:
                return

    def _plain_head(self) -> bytes:
        """Give the head that was just parsed, without its offer."""
        line = b"%b %b HTTP/%b\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        kept = (b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return line + b"".join(kept) + b"\r\n"

    @property
    def _is_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body (called by the parser)."""
        earned = (1 + FRAMING_OF_BYTE) * len(body)
        self._framing_left = min(FRAMING_BYTES, self._framing_left + earned)
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Note that a request has begun (called by the parser)."""
        self._is_busy, self._is_between = True, False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, if its headers are within the limit (called by the parser)."""
        if self._header_bytes > MAX_HEADER_BYTES:  # of headers, or of the body that came with them
            size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
            if size > MAX_HEADER_BYTES:
                self._refusal = HeadersTooLarge(f"headers may have {MAX_HEADER_BYTES} bytes")
                raise self._refusal  # the parser stops, and send_400_response is called
        if self._is_upgrade:
            return
        self._is_in_headers = False
        self._header_bytes = 0
        self._stop_timer()
        self._on_headers()

    def _on_headers(self) -> None:
        """Start the request."""
        if len(self.pipeline) >= MOST_PIPELINED:  # each takes memory, and reads are large
            self.transport.close()
            return
        super().on_headers_complete()
        if self._is_leaving:
            self.cycle.keep_alive = False
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._framing_left = FRAMING_BYTES
        self.headers = []  # what follows the body is not wanted

    def on_message_complete(self) -> None:
        """Expect the next request's headers (called by the parser)."""
        if self._is_upgrade:
            return
        super().on_message_complete()
        self._is_in_headers = self._is_between = True
        self._is_chunked = False

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one (called when a response is sent).

        One timer for the connection takes the place of uvicorn's, which is set and cancelled with
        every request.
        """
        self.server_state.total_requests += 1
        self._running = None
        has_begun = self._is_in_headers and not self._is_between  # the next one, and has its timer
        self._is_busy = has_begun or bool(self.pipeline)
        self._quiet_since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)  # type: ignore[arg-type]
        if not self.pipeline:
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: App) -> None:  # type: ignore[override]
        """Start a request (called by uvicorn)."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _unset_keepalive_if_required(self) -> None:
        """Leave the timer alone (called by uvicorn)."""

    def _on_quiet(self) -> None:
        """Close the connection if nothing was asked for ``KEEP_ALIVE_S``, else look again."""
        left_s = self._quiet_since + KEEP_ALIVE_S - self.loop.time()
        if self.transport.is_closing():  # once the client has read the last answer
            if self._stall is None:
                self._watch_stall(-1)
        elif self._is_busy or left_s > 0:
            wait_s = KEEP_ALIVE_S if self._is_busy else left_s
            self.timeout_keep_alive_task = self.loop.call_later(wait_s, self._on_quiet)
        else:
            self.timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed (called by uvicorn)."""
        self._refuse(self._refusal or Malformed(msg))

    def shutdown(self) -> None:
        """Finish, then close (called by uvicorn when the server stops).

        A connection that is idle now may have a request under way to us: it is not closed at once,
        but answers one more with ``connection: close``, so that the client knows.
        """
        self._is_leaving = True
        if self._is_answering:
            super().shutdown()
        else:
            self.loop.call_later(IDLE_LINGER_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._is_answering:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        """Whether a request is known whose answer is still to be sent."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _start_timer(self, seconds: float, on_late: Any) -> None:
        self._timer = self.loop.call_later(seconds, on_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_header_timeout(self) -> None:
        if self._is_between:
            self.transport.close()  # it never asked anything: an answer would puzzle it
        else:
            limit = f"{self.header_timeout_s:g} s"
            self._refuse(TooSlow(f"the headers were not complete after {limit}"))

    def _refuse(self, error: RequestError) -> None:
        """Answer outside of any request cycle, and close: not before answers that are due."""
        if self.transport.is_closing():
            return
        whole = [cycle for cycle, _ in self.pipeline if not cycle.more_body]  # the last one first
        if self._running is not None and not self._running.more_body:
            whole.append(self._running)
        if whole:
            whole[0].keep_alive = False
            self.pipeline = deque(one for one in self.pipeline if not one[0].more_body)
            self._stop_timer()
            self.flow.pause_reading()
            return
        problem = problem_of(error, request_id="-")
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(problem.body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + problem.body)
        self.transport.close()
