"""A TCP proxy of the tests' own: stands before a broker or a cache, and misbehaves when told to.

It runs in a thread of its own; a test switches its faults from outside, each way by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from tests.support.server import PATIENCE_S

_CHUNK_BYTES = 1 << 16
_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends RST, and throws away what is unsent


class Way:
    """What happens to bytes on one way. All connections share it; the switches may be set at any
    time, and are back as they were after ``heal``.

    Attributes:
        delay_s: How long each piece is held back.
        is_dropping: Whether bytes are swallowed while the connection stays up.
        dropped: What was swallowed since the last ``heal``.
        passed_bytes: How many bytes were passed on so far.
        cuts: How many connections were cut on this way.
        corrupted: How many pieces were damaged on this way.
    """

    def __init__(self) -> None:
        self.passed_bytes = self.cuts = self.corrupted = 0
        self.heal()

    def heal(self) -> None:
        """Pass everything on as it is."""
        self.delay_s = 0.0
        self.is_dropping = False
        self.dropped = bytearray()
        self._left_bytes: int | None = None
        self._pattern = b""
        self._to_corrupt = 0
        self._corrupt_after = (b"", 0)

    def cut_after(self, count: int) -> None:
        """Pass ``count`` more bytes on, then cut the connection that the next one came from."""
        self._left_bytes = count

    def cut_before(self, pattern: bytes) -> None:
        """Cut the next connection that sends ``pattern`` before all of it is passed on."""
        self._pattern = pattern

    def corrupt(self, pieces: int) -> None:
        """Flip a byte in the middle of each of the next ``pieces``."""
        self._to_corrupt = pieces

    def corrupt_after(self, pattern: bytes, mask: int = 0xFF) -> None:
        """Flip the bits in ``mask`` of the byte that follows the next ``pattern`` in one piece."""
        self._corrupt_after = (pattern, mask)

    def treat(self, piece: bytes, before: bytes) -> tuple[bytes, bool]:
        """Give what is passed on of ``piece``, and whether the connection is cut then.

        ``before`` is what came just before, on the same connection.
        """
        is_cut = False
        if self._pattern:
            start = max(0, len(before) - len(self._pattern) + 1)
            found = (before + piece).find(self._pattern, start)
            if found >= 0:
                piece = piece[: max(0, found - len(before))]
                self._pattern, is_cut = b"", True
        if self._left_bytes is not None:
            if len(piece) > self._left_bytes:
                piece, self._left_bytes, is_cut = piece[: self._left_bytes], None, True
            else:
                self._left_bytes -= len(piece)
        piece = self._damage(piece)
        if self.is_dropping:
            self.dropped += piece
            piece = b""
        self.passed_bytes += len(piece)
        self.cuts += is_cut
        return piece, is_cut

    def _damage(self, piece: bytes) -> bytes:
        pattern, mask = self._corrupt_after
        found = piece.find(pattern) + len(pattern) if pattern and pattern in piece else -1
        if 0 <= found < len(piece):
            self._corrupt_after = (b"", 0)
        elif self._to_corrupt and piece:
            self._to_corrupt -= 1
            found, mask = len(piece) // 2, 0xFF
        else:
            return piece
        self.corrupted += 1
        return piece[:found] + bytes([piece[found] ^ mask]) + piece[found + 1 :]


class Proxy:
    """Listens on a free port and passes all on to ``port``, as long as the ``with`` block.

    Attributes:
        to_server: The way from those who connect to whom they mean.
        to_client: The way back.
        accepted: When each connection came, by the monotonic clock.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.to_server, self.to_client = Way(), Way()
        self.accepted: list[float] = []
        self._server_port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self._in_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are up."""
        return len(self._handlers)

    def heal(self) -> None:
        """Pass everything on as it is, on both ways; those that were refused may come."""
        self.to_server.heal()
        self.to_client.heal()
        self.listen()

    def refuse(self) -> None:
        """Refuse connections from now on; those that are up stay."""
        self._in_loop(self._close_listener())

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._in_loop(self._open_listener())

    def reset(self) -> None:
        """Reset (RST) all connections that are up, on both sides."""
        self._in_loop(self._reset())

    def _in_loop(self, deed: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(deed, self._loop).result(PATIENCE_S)

    async def _open_listener(self) -> None:
        if self._listener is None:
            # By hand: an asyncio.Server that is closed while it accepts leaves a socket behind.
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._listener.setblocking(False)
            self.port = int(self._listener.getsockname()[1])
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _close_listener(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _reset(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _end(self) -> None:
        self.to_server.heal()
        self.to_client.heal()
        await self._reset()
        await asyncio.gather(*self._handlers)

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:  # who came has left again
            return
        self.accepted.append(time.monotonic())
        handler = asyncio.ensure_future(self._handle(accepted))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _handle(self, accepted: socket.socket) -> None:
        """Pass bytes on both ways until either side closes, or a fault cuts."""
        reader, writer = await asyncio.open_connection(sock=accepted)
        writers = {writer}
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            writers.add(far_writer)
            self._writers |= writers
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(self.to_server, reader, far_writer))
                group.create_task(self._pass_on(self.to_client, far_reader, writer))
        except* _Closed:
            for opened in writers:
                opened.close()
        except* OSError:  # as sudden for the one as for the other
            for opened in writers:
                _reset(opened)
        for opened in writers:
            with contextlib.suppress(OSError):
                await opened.wait_closed()
        self._writers -= writers

    async def _pass_on(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes on; never returns. Where bytes are swallowed, so is the news of the end."""
        try:
            await _copy(way, reader, writer)
        finally:
            while way.is_dropping:  # noqa: ASYNC110 - switched from another thread
                await asyncio.sleep(0.02)


class _Closed(Exception):
    """One side has closed the connection, or a fault did."""


async def _copy(way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    before = b""
    while piece := await reader.read(_CHUNK_BYTES):
        if way.delay_s:
            await asyncio.sleep(way.delay_s)
        passed, is_cut = way.treat(piece, before)
        before = (before + piece)[-_CHUNK_BYTES:]
        writer.write(passed)
        await writer.drain()
        if is_cut:
            break
    raise _Closed


def _reset(writer: asyncio.StreamWriter) -> None:
    opened: socket.socket | None = writer.get_extra_info("socket")
    if opened is not None:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
