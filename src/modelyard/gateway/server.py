"""The web server: uvicorn, with the limits on headers that it lacks, ended by us and not by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from modelyard.core.errors import Malformed, RequestError, TooSlow
from modelyard.gateway.problems import MEDIA_TYPE, problem_of
from modelyard.gateway.types import App

MAX_HEADER_BYTES = 32 * 1024
KEEP_ALIVE_S = 75
BACKLOG = 2048


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


class LimitedProtocol(HttpToolsProtocol):
    """Bounds the size of a request's headers and the time they take; offers a shorter way out.

    A request that arrives whole in one read, as nearly all do, costs two comparisons and no timer.
    """

    header_timeout_s = 10.0
    dated: ClassVar[list[tuple[bytes, bytes]]] = []
    date_lines: ClassVar[bytes] = b""
    outboxes: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox]] = WeakKeyDictionary()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._is_in_headers = True
        self._header_timer: asyncio.TimerHandle | None = None
        self._refusal: RequestError | None = None
        self._outbox = self.outboxes.setdefault(self.loop, Outbox(self.loop))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever (called by the loop)."""
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection (called by the loop)."""
        self._stop_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives (called by the loop)."""
        if self._is_in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
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

    def on_message_complete(self) -> None:
        """Expect the next request's headers (called by the parser)."""
        super().on_message_complete()
        self._is_in_headers = True
        self.scope["modelyard.is_whole"] = True  # type: ignore[typeddict-unknown-key]

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
        """Finish, then close (called by uvicorn when the server stops)."""
        self._outbox.flush()
        super().shutdown()

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


class Server(uvicorn.Server):
    """Serves on sockets that are bound already, until ``stop``."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever composes the process."""
        yield

    def stop(self, *, is_forced: bool = False) -> None:
        """Accept no more, finish what is under way, then let ``serve`` return."""
        self.should_exit = True
        self.force_exit = self.force_exit or is_forced


def make_server(app: App, *, header_timeout_s: float, drain_s: float) -> Server:
    """Give a server for ``app``; ``serve(sockets=[…])`` runs it.

    Args:
        app: The ASGI application.
        header_timeout_s: How long a client may take for its headers.
        drain_s: How long ``stop`` waits for requests under way.
    """
    protocol = type("Protocol", (LimitedProtocol,), {"header_timeout_s": header_timeout_s})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(drain_s)),
        backlog=BACKLOG,
    )
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Give a listening socket; port 0 takes a free one.

    Raises:
        OSError: The address is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
