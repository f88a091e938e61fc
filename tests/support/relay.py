"""Passes connections on to a server, and keeps what was said both ways."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import NamedTuple


class Heard(NamedTuple):
    """What was said on one connection."""

    to_server: bytearray
    to_client: bytearray


class Relay:
    """Listens on a free port, and passes all on to ``port``, as long as the block.

    Attributes:
        port: Where it listens.
        connections: What was said on each.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.connections: list[Heard] = []
        self._server_port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._listener = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._handlers)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        heard = Heard(bytearray(), bytearray())
        self.connections.append(heard)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers += (writer, far_writer)
        await asyncio.gather(
            _pass_on(reader, far_writer, heard.to_server),
            _pass_on(far_reader, writer, heard.to_client),
        )


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray
) -> None:
    """Pass bytes on to the end, and that as well."""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            kept += piece
            writer.write(piece)
            await writer.drain()
    writer.close()
