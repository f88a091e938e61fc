"""A client that reads an answer in pieces, and the gateway's end of its connection.

What the gateway writes is judged when it writes it. How fast the client reads says only when the
gateway may write more.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.core.errors import Failure, GivenUp, from_failure
from modelyard.core.stream import WINDOW
from modelyard.gateway.preparing import Predicting
from modelyard.gateway.stall import Stall
from modelyard.gateway.stream_writer import StreamWriter
from modelyard.runner.concurrent.sources import OVERRUN
from tests.simulation.ledger import Asked
from tests.simulation.schedule import PIECE_BYTES, Piece

if TYPE_CHECKING:
    from tests.simulation.parts import Front

HIGH_BYTES = 32 * PIECE_BYTES  # as in asyncio, but smaller, so that short streams fill it
LOW_BYTES = HIGH_BYTES // 4
LINE_BYTES = PIECE_BYTES + 60
READ_S = 0.05


class End(msgspec.Struct):
    """The end of a stream that is whole."""

    model_name: str
    model_version: str
    pieces: int


class Problem(msgspec.Struct):
    """The part of a problem document that is looked at."""

    status: int
    code: str
    detail: str


class Line(msgspec.Struct):
    """What a line may be."""

    piece: Piece | None = None
    end: End | None = None
    error: Problem | None = None


_lines = msgspec.json.Decoder(Line)


class Socket(asyncio.Transport):
    """The gateway's end of the connection."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader
        self.unread = 0
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.unread += len(data)
        self._reader.wrote(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        """The gateway has had enough of a client that reads nothing."""
        self._reader.leave()


class Reader:
    """The client, and the connection; see ``stream_writer.Connection``.

    Args:
        front: The gateway.
        asked: What it asked.
    """

    def __init__(self, front: Front, asked: Asked) -> None:
        self._front = front
        self._asked = asked
        self._loop = front.world.loop
        self._checks = front.world.checks
        self._client = Context()  # it is in none of the processes
        self.socket = Socket(self)
        self.transport: asyncio.Transport = self.socket
        self.writer = StreamWriter(self, is_chunked=False)
        self._stall = Stall(self._loop, self.transport)
        kind = front.world.schedule.models[asked.ask.model].kind
        unread = WINDOW + (OVERRUN if kind == "engine" else 0)
        self._most_bytes = HIGH_BYTES + unread * LINE_BYTES
        self._run: int | None = None
        self._is_head_read = self._is_over = self._is_paused = False
        self._is_reading = False
        self._read_bytes = 0
        self.call: Predicting | None = None

    # What the gateway calls.

    def respond(self, head: bytes, body: bytes) -> None:
        """Get an ordinary response."""
        self._is_over = True
        self._front.door.respond(self._asked, head, body)

    def complete(self, head: bytes) -> bytes:
        """See ``Connection``."""
        return head + b"\r\n"

    def on_answered(self) -> None:
        """See that the answer has ended in one of the ways in which it may."""
        if not self._is_over and self._front.process.state != "dead":
            self._checks.problem(f"{self._asked.ask.id} was cut off without a word")

    def wrote(self, data: bytes) -> None:
        """Judge what is written, and let the client read it."""
        if self._front.process.state == "dead":
            return  # it is cleared away
        if self._is_over:
            self._checks.problem(f"{self._asked.ask.id} got {data[:60]!r} after its end")
        elif not self._is_head_read:
            self._is_head_read = True
            if not data.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\n"):
                self._checks.problem(f"{self._asked.ask.id} got the head {data!r}")
        else:
            for line in data.splitlines():
                if line:
                    self._on_line(_lines.decode(line))
        if self.socket.unread > self._most_bytes:
            self._checks.problem(f"{self._asked.ask.id} fills memory: {self.socket.unread} bytes")
        if self.socket.unread > HIGH_BYTES and not self._is_paused:
            self._is_paused = True
            self._stall.watch()
            self.writer.pause_writing()
        self._read_later()

    def _on_line(self, line: Line) -> None:
        asked, now = self._asked, self._loop.time()
        if line.piece is not None:
            nonce, number, run, _ = line.piece
            if self._run is None:
                self._run = run
            if (nonce, number, run) != (asked.ask.nonce, asked.pieces, self._run):
                wanted = (asked.ask.nonce, asked.pieces, self._run)
                got = (nonce, number, run)
                self._checks.problem(f"{asked.ask.id} got the piece {got}, not {wanted}")
            asked.first_piece_at = asked.first_piece_at or now
            asked.last_piece_at = now
            asked.pieces += 1
            return
        self._is_over = True
        if line.end is not None:
            self._checks.streams.on_end(asked, line.end)
            asked.note(b"ended", now)
        elif line.error is not None:
            asked.note(from_failure(Failure(line.error.code, line.error.detail)), now)
        self._front.answered(asked)

    # What the client does.

    def leave(self) -> None:
        """Close the connection."""
        if self.socket.is_closed:
            return
        self.socket.is_closed = True
        self._stall.stop()
        if self._is_over or self.call is None or self.call.outcome is not None:
            return
        self._is_over = True
        gone = GivenUp("the client has disconnected")
        self._asked.has_left, self._asked.left_at = True, self._loop.time()
        self.call.settle(gone)
        self._asked.note(gone, self._loop.time())
        self._front.answered(self._asked)

    def _read_later(self) -> None:
        if not self._is_reading and self.socket.unread and not self.socket.is_closed:
            self._is_reading = True
            delay_s = READ_S if self._asked.ask.reads_per_s else 0.0005
            self._loop.call_later(delay_s, self._read, context=self._client)

    def _read(self) -> None:
        """Read, as fast as the client does."""
        self._is_reading = False
        ask = self._asked.ask
        if ask.stops_at is not None and self._read_bytes >= ask.stops_at * PIECE_BYTES:
            return
        most = self.socket.unread
        if ask.reads_per_s:
            most = min(most, int(ask.reads_per_s * READ_S * PIECE_BYTES) + 1)
        self._read_bytes += most
        self.socket.unread -= most
        if self._is_paused and self.socket.unread <= LOW_BYTES:
            self._front.process.soon(self._drained)
        self._read_later()

    def _drained(self) -> None:
        if self._is_paused and not self.socket.is_closed:
            self._is_paused = False
            self._stall.stop()
            self.writer.resume_writing()
