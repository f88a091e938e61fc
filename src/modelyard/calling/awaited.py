"""HTTP that is awaited, with asyncio's streams: as much of HTTP/1.1 as gateways and proxies speak.

A request that is cancelled closes its connection, so the gateway knows that nobody waits any more.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from modelyard.calling.address import Address
from modelyard.calling.replies import CONNECT_TIMEOUT_S, KEEP_ALIVE_S, reply_of
from modelyard.client.calls import Request
from modelyard.client.exchange import Lost, Reply, TimedOut

_LONGEST_LINE = 64 * 1024


class _Broken(Exception):
    """What came is no answer."""


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.transport.abort()


class AwaitedHttp:
    """Sends requests to one gateway, from one event loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: deque[tuple[_Connection, float]] = deque()

    async def send(
        self, request: Request, headers: Mapping[str, str], *, give_up: float
    ) -> Reply | Lost | TimedOut:
        """Send a request, and wait for the answer until ``time.monotonic()`` is ``give_up``."""
        connection: _Connection | None = None
        is_kept = False
        try:
            async with asyncio.timeout(give_up - time.monotonic()):
                connection = await self._take()
                connection.writer.write(self._written(request, headers))
                reply, is_last = await _read(connection.reader)
                is_kept = not is_last
                return reply
        except TimeoutError as error:
            return TimedOut(error) if time.monotonic() >= give_up else Lost(error)
        except (OSError, EOFError, ValueError, _Broken) as error:
            return Lost(error)
        finally:
            if connection is not None and is_kept:
                self._idle.append((connection, time.monotonic()))
            elif connection is not None:
                connection.close()

    def _written(self, request: Request, headers: Mapping[str, str]) -> bytes:
        address, body = self._address, request.body or b""
        fields = {
            "host": f"{address.host}:{address.port}",
            **request.headers,
            **headers,
            "content-length": str(len(body)),
        }
        lines = [f"{request.method} {address.path}{request.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def _take(self) -> _Connection:
        """Return a connection that nobody uses, or a new one."""
        while self._idle:
            connection, since = self._idle.pop()
            is_fresh = time.monotonic() - since < KEEP_ALIVE_S
            if is_fresh and not connection.reader.at_eof():
                return connection
            connection.close()
        address = self._address
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if address.socket:
                return _Connection(
                    *await asyncio.open_unix_connection(address.socket, limit=_LONGEST_LINE)
                )
            tls = ssl.create_default_context() if address.is_secure else None
            return _Connection(
                *await asyncio.open_connection(
                    address.host, address.port, ssl=tls, limit=_LONGEST_LINE
                )
            )


async def _read(reader: asyncio.StreamReader) -> tuple[Reply, bool]:
    """Return an answer, and whether it is the last one on its connection."""
    status, is_last = 0, False
    while status < 200:  # 1xx say only that the answer will come
        protocol, _, rest = (await _line(reader)).partition(b" ")
        if not protocol.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise _Broken(f"this is no HTTP: {protocol[:40]!r}")
        status, headers = int(rest[:3]), {}
        while line := await _line(reader):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        is_last = protocol != b"HTTP/1.1" or headers.get("connection", "").lower() == "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body, is_last = await reader.read(), True
    return reply_of(status, headers, body), is_last


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await _line(reader)).partition(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await _line(reader)
    while await _line(reader):  # trailers
        pass
    return b"".join(pieces)


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the connection was closed before the answer was complete")
    return line.rstrip(b"\r\n")
