"""Hands a request for a page over to uvicorn's own protocol, which writes the response.

Each request gets a protocol instance of its own, which sees a connection with just this request. So
uvicorn is used unmodified, and limits on size and time are enforced before it is involved.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from modelyard.core.errors import ShuttingDown
from modelyard.gateway.heads import Head
from modelyard.gateway.problems import MEDIA_TYPE, problem_of
from modelyard.gateway.types import App, Message, Receive, Scope, Send

_FRAMING = re.compile(
    rb"^(transfer-encoding|content-length|expect)[ \t]*:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE
)


class Pages:
    """Answers requests by an ASGI application.

    Args:
        app: The application.
    """

    def __init__(self, app: App) -> None:
        self._config = uvicorn.Config(
            partial(_or_refuse, app),
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=3600,  # we close the connection ourselves
        )

    def answer(
        self,
        head: Head,
        body: bytes | bytearray,
        *,
        transport: asyncio.Transport,
        default_headers: list[tuple[bytes, bytes]],
        on_done: Callable[[bool], None],
    ) -> Handover:
        """Begin to answer. ``on_done`` is called when the response is written, with whether the
        connection must be closed.
        """
        proxy = Proxy(transport)
        protocol, state = self.open(proxy, default_headers)
        raw = head.raw if head.body_bytes == len(body) == 0 else _reframed(head.raw, len(body))
        protocol.data_received(raw + bytes(body))
        return Handover(protocol, proxy, state, on_done)

    def open(
        self, proxy: Proxy, default_headers: list[tuple[bytes, bytes]]
    ) -> tuple[HttpToolsProtocol, ServerState]:
        """Return a protocol for one request, and what has its task once it has the head."""
        state = ServerState()
        state.default_headers = default_headers
        protocol = HttpToolsProtocol(config=self._config, server_state=state, app_state={})
        protocol.connection_made(proxy)
        return protocol, state


async def _or_refuse(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by ``app``; one that is given up before it has begun to answer is refused."""
    has_begun = False

    async def noting_send(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    try:
        await app(scope, receive, noting_send)
    except asyncio.CancelledError:
        if has_begun:
            raise
        problem = problem_of(ShuttingDown("this gateway is shutting down"), request_id="-")
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"1")]
        status = problem.status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": problem.body})


class Handover:
    """One request that uvicorn answers."""

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        proxy: Proxy,
        state: ServerState,
        on_done: Callable[[bool], None],
    ) -> None:
        self._protocol = protocol
        self._proxy = proxy
        self._on_done = on_done
        self._tasks = list(state.tasks)
        if not self._tasks:  # uvicorn has refused it
            asyncio.get_running_loop().call_soon(self._finish)
        for task in self._tasks:
            task.add_done_callback(self._finish)

    def pause_writing(self) -> None:
        """Pause: the client reads more slowly than we write."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Resume writing."""
        self._protocol.resume_writing()

    def leave_after(self) -> None:
        """Add ``connection: close`` to the response."""
        self._protocol.shutdown()

    def client_left(self) -> None:
        """Tell the application that the client has disconnected."""
        self._protocol.connection_lost(None)

    def cancel(self) -> None:
        """Cancel the application's task."""
        for task in self._tasks:
            task.cancel()

    def _finish(self, _: object = None) -> None:
        is_closed = self._proxy.is_closed
        self._protocol.connection_lost(None)  # so that it cancels its timers
        self._on_done(is_closed)


class Proxy(asyncio.Transport):
    """The connection as uvicorn sees it: it can write, but not close the real one."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.is_closed or self._transport.is_closing()

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Nothing to do: its one request is complete."""

    def resume_reading(self) -> None:
        """See ``pause_reading``."""

    def is_reading(self) -> bool:
        return True


def _reframed(raw: bytes, body_bytes: int) -> bytes:
    """Return the head with this content length: the body was chunked, or is complete already."""
    return _FRAMING.sub(b"", raw)[:-2] + b"content-length: %d\r\n\r\n" % body_bytes
