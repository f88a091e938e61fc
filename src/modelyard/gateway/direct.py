"""Large bodies, read by the kernel straight into their place.

A protocol gets what was read as new bytes, the parser cuts pieces off, and the pieces are joined:
a body is copied three times before anybody looks at it. Here it is not copied at all, but for the
little that comes with its headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DIRECT_BYTES = 64 * 1024  # a body of which more than this is to come is read this way
OTHER_BYTES = 16 * 1024  # what is read at once of all else


class DirectReader(asyncio.BufferedProtocol):
    """Stands between a transport and ``owner``, from the connection's first large body on.

    Args:
        owner: Gets all that is not read for ``expect``, and is told of all else that happens.
    """

    def __init__(self, owner: asyncio.Protocol) -> None:
        self._scratch = memoryview(bytearray(OTHER_BYTES))
        self._body = bytearray()
        self._rest = memoryview(b"")  # of the body, that is still to come
        self._on_whole: Callable[[bytearray], None]
        self._data_received = owner.data_received
        self.eof_received = owner.eof_received  # type: ignore[method-assign]
        self.connection_lost = owner.connection_lost  # type: ignore[method-assign]
        self.pause_writing = owner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = owner.resume_writing  # type: ignore[method-assign]

    def expect(self, size: int, pieces: list[bytes], on_whole: Callable[[bytearray], None]) -> None:
        """Read a body of ``size`` bytes, of which ``pieces`` are here, and give it to
        ``on_whole``.
        """
        self._body = bytearray(size)
        self._on_whole = on_whole
        rest = memoryview(self._body)
        for piece in pieces:
            rest[: len(piece)] = piece
            rest = rest[len(piece) :]
        self._rest = rest

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the place for what is to come (called by the loop)."""
        return self._rest or self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has come (called by the loop)."""
        if not self._rest:
            self._data_received(bytes(self._scratch[:nbytes]))
            return
        self._rest = self._rest[nbytes:]
        if not self._rest:
            self._rest = memoryview(b"")  # an empty piece of the body would keep all of it
            body, self._body = self._body, bytearray()
            self._on_whole(body)
