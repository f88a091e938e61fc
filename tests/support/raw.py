"""HTTP by hand, for what a well-behaved client library would not send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from types import TracebackType
from typing import Any, NamedTuple

from tests.support.server import PATIENCE_S


class Answer(NamedTuple):
    """A response, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request_bytes(
    body: bytes, *headers: str, path: str = "/predict", method: str = "POST"
) -> bytes:
    """Give a request with a length and, unless ``headers`` has one, a JSON content type."""
    lines = [f"{method} {path} HTTP/1.1", "host: test", *headers]
    names = {header.partition(":")[0].lower() for header in headers}
    if "content-type" not in names:
        lines.append("content-type: application/json")
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def address_of(url: str) -> tuple[str, int]:
    """Give host and port of a URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def ask(url: str, *pieces: bytes) -> Answer:
    """Send ``pieces``, and read one response."""
    with socket.create_connection(address_of(url), timeout=PATIENCE_S) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has been refused already; the answer is on its way
        reader = connection.makefile("rb")
        head = [reader.readline()]
        while head[-1] not in (b"\r\n", b""):
            head.append(reader.readline())
        answer = _parse_head(head)
        return answer._replace(body=reader.read(int(answer.headers.get("content-length", 0))))


async def ask_at_once(url: str, request: bytes, times: int) -> list[Answer]:
    """Open ``times`` connections, send ``request`` on all of them, read all responses."""
    host, port = address_of(url)
    streams = [await asyncio.open_connection(host, port) for _ in range(times)]
    for _, writer in streams:
        writer.write(request)
    answers = []
    for reader, writer in streams:
        head = (await reader.readuntil(b"\r\n\r\n")).splitlines(keepends=True)
        answer = _parse_head(head)
        body = await reader.readexactly(int(answer.headers["content-length"]))
        answers.append(answer._replace(body=body))
        writer.close()
    for _, writer in streams:
        await writer.wait_closed()
    return answers


async def connect(url: str) -> Line:
    """Open a connection to stay."""
    return Line(*await asyncio.open_connection(*address_of(url)))


class Line:
    """One kept-alive connection, on which every byte counts: an answer too many shows."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if self._writer.transport.get_write_buffer_size():  # nobody reads it
            self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()  # a server that is stopped waits for it

    def close(self) -> None:
        """Go, whatever is still to come."""
        self._writer.close()

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, request: bytes) -> Answer:
        """Send a request, and read one response."""
        self.send(request)
        return await self.answer()

    def send(self, data: bytes) -> None:
        """Send bytes, be they part of a request or several."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until most of it has left."""
        await self._writer.drain()

    async def interim(self) -> bytes:
        """Read a response that comes before the response."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> Answer:
        """Read one response."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).splitlines(keepends=True)
        answer = _parse_head(head)
        body = await self._reader.readexactly(int(answer.headers["content-length"]))
        if answer.headers.get("connection") == "close":
            self._writer.close()
        return answer._replace(body=body)

    async def everything(self) -> bytes:
        """Read to the end of the connection."""
        return await self._reader.read(-1)

    async def rest(self) -> bytes:
        """Ask for the end of the connection; gives all that comes before the farewell."""
        farewell = request_bytes(b"", "connection: close", path="/healthz", method="GET")
        self._writer.write(farewell)
        before, _, _ = (await self._reader.read(-1)).rpartition(b"HTTP/1.1 ")
        return before


def _parse_head(lines: list[bytes]) -> Answer:
    status = int(lines[0].split()[1])
    fields = (line.decode("latin-1").partition(":") for line in lines[1:] if b":" in line)
    return Answer(status, {name.lower(): value.strip() for name, _, value in fields}, b"")
