"""Hands a request over while its body still comes: artefacts are larger than memory.

The page is asked as soon as the head is there, so that a caller who may not send is refused before
anything is read. How fast it reads is how fast the client may send. Such a request is the last one
of its connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from modelyard.core.errors import Malformed, RequestError, TooSlow
from modelyard.gateway.handover import Handover, Pages, Proxy
from modelyard.gateway.heads import Head

_PATH = re.compile(
    rb"PUT /registry/(blobs/sha256/[^/]+|models/[^/]+/versions/[^/]+)|POST /batches|POST /v1/files"
)


def mark_streamed(head: Head) -> None:
    """Mark a request whose body is to be handed on as it comes.

    Raises:
        Malformed: It does not say how long that is.
    """
    if _PATH.fullmatch(b"%b %b" % (head.method, head.path)) is not None:
        head.is_streamed = True
        if head.body_bytes is None:
            raise Malformed("this needs a content-length, and is not taken in chunks")


def answer_streamed(
    pages: Pages,
    head: Head,
    *,
    transport: asyncio.Transport,
    default_headers: list[tuple[bytes, bytes]],
    on_done: Callable[[bool], None],
    on_late: Callable[[RequestError, Head], None],
    timeout_s: float,
) -> StreamedHandover:
    """Begin to answer a request, whose body is then fed to what this returns.

    Args:
        pages: Answer it.
        head: Of the request.
        transport: The connection.
        default_headers: Of every response.
        on_done: Called when the response is written, with whether the connection must be closed.
        on_late: Called with an error if the client sends nothing although it may.
        timeout_s: How long it may do so.
    """
    proxy = _Proxy(transport)
    protocol, state = pages.open(proxy, default_headers)
    protocol.data_received(head.raw)
    handover = StreamedHandover(
        protocol,
        proxy,
        state,
        on_done,
        on_late=lambda error: on_late(error, head),
        left=head.body_bytes or 0,
        timeout_s=timeout_s,
    )
    handover.leave_after()
    return handover


class _Proxy(Proxy):
    """The connection while a body comes: reading can be paused, and ended."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self.is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()


class StreamedHandover(Handover):
    """One request whose body still comes.

    Args:
        protocol: Uvicorn's, which has the head.
        proxy: The connection as uvicorn sees it.
        state: Has the task that answers.
        on_done: Called when the response is written, with whether the connection must be closed.
        on_late: Called with an error if the client sends nothing although it may.
        left: How many bytes of the body are to come.
        timeout_s: How long the client may do so.
    """

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        proxy: _Proxy,
        state: ServerState,
        on_done: Callable[[bool], None],
        *,
        on_late: Callable[[RequestError], None],
        left: int,
        timeout_s: float,
    ) -> None:
        super().__init__(protocol, proxy, state, on_done)
        self._reading = proxy
        self._on_late = on_late
        self._left = left
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._came = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._look)

    @property
    def is_whole(self) -> bool:
        """Whether all of the body has come."""
        return not self._left

    def feed(self, data: bytes) -> None:
        """Hand received bytes on; what stands behind the body is dropped."""
        self._came = self._loop.time()
        piece = data[: self._left]
        self._left -= len(piece)
        if piece:
            self._protocol.data_received(piece)

    def client_left(self) -> None:
        """See ``Handover``."""
        self._timer.cancel()
        super().client_left()

    def _look(self) -> None:
        """See whether the client sends nothing although it may."""
        now = self._loop.time()
        if self._reading.is_paused or self.is_whole:
            self._came = now
        if now - self._came >= self._timeout_s:
            self.client_left()
            limit = f"{self._timeout_s:g} s"
            self._on_late(TooSlow(f"nothing more of the body came for {limit}"))
            return
        self._timer = self._loop.call_later(self._came + self._timeout_s - now, self._look)

    def _finish(self, _: object = None) -> None:
        self._timer.cancel()
        super()._finish()
