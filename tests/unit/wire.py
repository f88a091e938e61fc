"""What lies between a connection and its client, in memory; what is sent on it and read from it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httptools

READ_BYTES = 256 * 1024  # what asyncio's loop reads at once
QUESTION = b'{"model_name":"iris","input_data":[1]}'


def request(
    body: bytes = QUESTION,
    *lines: str,
    method: str = "POST",
    path: str = "/predict",
    version: str = "1.1",
    content_type: str = "application/json",
) -> bytes:
    """Give a request whose body has a content-length; ``lines``: more of its headers."""
    headers = [f"content-type: {content_type}", f"content-length: {len(body)}"] if body else []
    head = [f"{method} {path} HTTP/{version}", "host: gateway", *headers, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def chunked(*pieces: bytes, lines: tuple[str, ...] = (), path: str = "/predict") -> bytes:
    """Give a request whose body comes in chunks."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    framing = ("transfer-encoding: chunked", "content-type: application/json")
    return request(b"", *framing, *lines, path=path) + chunks + b"0\r\n\r\n"


def question(number: int, **more: object) -> bytes:
    """Give a body that asks for the prediction of one number."""
    return json.dumps({"model_name": "iris", "input_data": [number], **more}).encode()


@dataclass
class Answer:
    """One response, as the client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """That of the problem that it tells of; "ok" where it tells of none."""
        is_problem = self.headers.get("content-type") == "application/problem+json"
        return str(self.json["code"]) if is_problem else "ok"


class Answers:
    """Cuts what is received into responses (called by the parser)."""

    def __init__(self) -> None:
        self.done: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._headers: dict[str, str] = {}
        self._body = b""

    def feed(self, data: bytes) -> list[Answer]:
        self._parser.feed_data(data)
        return self.done

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self.done.append(Answer(status, self._headers, self._body))
        self._headers, self._body = {}, b""


class Wire(asyncio.Transport):
    """What lies between a connection and its client: the kernel's part, in memory.

    Attributes:
        received: All that was written.
        is_eof: Whether the server has said that it writes no more.
        unread: What the server does not read, having stopped to read.
        unwritten: How many bytes the client has not taken, as the server sees it.
    """

    def __init__(self, *, can_half_close: bool = True) -> None:
        super().__init__()
        self.received = b""
        self.is_eof = self.is_closed = self.is_aborted = self.is_paused = False
        self.unread = b""
        self.unwritten = 0
        self._can_half_close = can_half_close
        self._is_lost = False
        self._protocol: asyncio.BaseProtocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # What the client does.

    def deliver(self, data: bytes) -> None:
        """Let bytes arrive, as the loop would: into the protocol's own buffer if it has one."""
        self.unread += data
        while self.unread and not (self.is_paused or self.is_closed):
            protocol = self._protocol
            if isinstance(protocol, asyncio.BufferedProtocol):
                room = memoryview(protocol.get_buffer(-1))
                count = min(len(room), len(self.unread))
                room[:count] = self.unread[:count]
                self.unread = self.unread[count:]
                protocol.buffer_updated(count)
            else:
                assert isinstance(protocol, asyncio.Protocol)
                data, self.unread = self.unread[:READ_BYTES], self.unread[READ_BYTES:]
                protocol.data_received(data)

    def lose(self, error: Exception | None = None) -> None:
        """Tell the server that the connection is gone."""
        self.is_closed = True
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(error)

    # What the server does.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        is_over = self.is_eof or self.is_aborted
        assert not is_over, "written behind the end"
        self.received += data

    def write_eof(self) -> None:
        self.is_eof = True

    def can_write_eof(self) -> bool:
        return self._can_half_close

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.lose)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False
        if self.unread:
            asyncio.get_running_loop().call_soon(self.deliver, b"")

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        addresses = {"peername": ("192.0.2.1", 1234), "sockname": ("192.0.2.2", 80)}
        return addresses.get(name, default)
