"""Reads request bodies of one connection, within limits: by content length, or chunked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelyard.core.errors import RequestError, TooLarge
from modelyard.gateway.budget import SMALL_BYTES
from modelyard.gateway.direct import DIRECT_BYTES, DirectReader
from modelyard.gateway.heads import HeadParser, HeadTooLargeError

# Allowance for the framing of a chunked body: more than one read, and some more for each byte of
# the body, since a chunk of one byte has 6 bytes of framing.
FRAMING_BYTES = 320 * 1024
FRAMING_OF_BYTE = 8


class BodyReader:
    """Reads one body after the other.

    Args:
        owner: The protocol of the connection.
        parser: The parser of the heads, which also decodes chunks.
        reserve: Called with a number of bytes before they are allocated; raises if the budget is
            used up.
        on_whole: Called with a complete body, and with the bytes that follow it.
        on_refused: Called with the error if a body is not read any further.
    """

    def __init__(
        self,
        owner: asyncio.Protocol,
        parser: HeadParser,
        *,
        reserve: Callable[[int], None],
        on_whole: Callable[[bytes | bytearray, bytes], None],
        on_refused: Callable[[RequestError], None],
    ) -> None:
        self._owner = owner
        self._parser = parser
        self._reserve = reserve
        self._on_whole = on_whole
        self._on_refused = on_refused
        self._direct: DirectReader | None = None
        self._size: int | None = 0
        self._max_bytes = 0
        self._begun = b""
        self._pieces: list[bytes] = []  # of a chunked body
        self._pieces_bytes = 0
        self._unreserved = 0  # of those bytes
        self._framing_left = 0

    def begin(
        self, size: int | None, begun: bytes, *, max_bytes: int, transport: asyncio.Transport
    ) -> None:
        """Read a body of ``size`` bytes, or a chunked one if that is None. ``begun``: its first
        bytes.
        """
        self._size, self._max_bytes = size, max_bytes
        self._begun = b""
        self._pieces_bytes, self._unreserved, self._framing_left = 0, 0, FRAMING_BYTES
        if size is not None and size - len(begun) > DIRECT_BYTES:
            if self._direct is None:
                self._direct = DirectReader(self._owner)
                transport.set_protocol(self._direct)
            self._direct.expect(
                size, begun, reserve=self._try_to_reserve, on_whole=self._on_direct_body
            )
        elif size is None or self._try_to_reserve(size):
            self.feed(begun)

    def feed(self, data: bytes) -> None:
        """Process received bytes."""
        if self._size is None:
            try:
                self._feed_chunks(data)
            except RequestError as error:
                self._on_refused(error)
            return
        begun = self._begun + data
        if len(begun) < self._size:
            self._begun = begun
            return
        self._begun = b""
        self._parser.skip_body()
        self._on_whole(begun[: self._size], begun[self._size :])

    def give_up(self) -> None:
        """Stop reading the current body."""
        self._begun = b""
        self._pieces.clear()
        if self._direct is not None:
            self._direct.give_up()

    def _feed_chunks(self, data: bytes) -> None:
        pieces, rest, is_whole = self._parser.feed_chunks(data)
        came = sum(map(len, pieces))
        self._pieces += pieces
        self._pieces_bytes += came
        earned = (1 + FRAMING_OF_BYTE) * came
        self._framing_left = min(FRAMING_BYTES, self._framing_left + earned) - len(data)
        if self._pieces_bytes > self._max_bytes:
            raise TooLarge(f"the body is over the limit of {self._max_bytes} bytes")
        if self._framing_left < 0 and not is_whole:
            raise HeadTooLargeError("there is too much around the chunks of the body")
        self._unreserved += came
        if self._unreserved > SMALL_BYTES:  # less is not counted
            self._reserve(self._unreserved)
            self._unreserved = 0
        if is_whole:
            body = b"".join(self._pieces)
            self._pieces.clear()
            self._on_whole(body, rest)

    def _try_to_reserve(self, size: int) -> bool:
        try:
            self._reserve(size)
        except RequestError as error:
            self._on_refused(error)
            return False
        return True

    def _on_direct_body(self, body: bytearray) -> None:
        self._parser.skip_body()
        self._on_whole(body, b"")
