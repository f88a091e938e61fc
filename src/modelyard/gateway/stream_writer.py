"""Writes a response whose end is not known at its begin: in chunks, or until it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Connection(Protocol):
    """A connection, as far as it matters here."""

    transport: asyncio.Transport

    def respond(self, head: bytes, body: bytes) -> None:
        """Send an ordinary response."""
        ...

    def complete(self, head: bytes) -> bytes:
        """Return a head with the headers that all responses have."""
        ...

    def on_answered(self) -> None:
        """The response is written."""
        ...


class StreamWriter:
    """One response. Called, it sends an ordinary one (``types.Respond``).

    Args:
        connection: Where it is written.
        is_chunked: Whether the client understands chunks, which is all of them since HTTP/1.1.

    Attributes:
        lines: Header lines that every answer has.
        on_drained: Called when a slow client has read what was written.
        is_paused: Whether a slow client has not.
    """

    def __init__(self, connection: Connection, *, is_chunked: bool) -> None:
        self.lines = b""
        self.is_open = self.is_paused = False
        self.on_drained: Callable[[], None] | None = None
        self._connection = connection
        self._is_chunked = is_chunked

    def __call__(self, head: bytes, body: bytes) -> None:
        """Send an ordinary response."""
        self._connection.respond(head + self.lines, body)

    def open(self, head: bytes) -> None:
        """Begin the response; ``head`` is as in ``types.Respond``, without a length."""
        self.is_open = True
        framing = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        self._write(self._connection.complete(head + framing + self.lines))

    def write(self, data: bytes) -> None:
        """Send more of the body."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def close(self) -> None:
        """End the response."""
        if self._is_chunked:
            self._write(b"0\r\n\r\n")
        self._connection.on_answered()

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than we write."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self.is_paused = False
        if self.on_drained is not None:
            self.on_drained()

    def _write(self, data: bytes) -> None:
        transport = self._connection.transport
        if not transport.is_closing():
            transport.write(data)
