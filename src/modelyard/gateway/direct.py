"""Large bodies, read by the kernel straight into their place.

A protocol gets what was read as new bytes, and the pieces are joined: a body is copied twice before
anybody looks at it. Here it is copied once at most, and not at all up to ``FIRST_BYTES``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DIRECT_BYTES = 64 * 1024  # a body of which more than this is to come is read this way
FIRST_BYTES = 1 << 20  # room is made for so much at once, and then for twice what has come
OTHER_BYTES = 16 * 1024  # what is read at once of all else


class DirectReader(asyncio.BufferedProtocol):
    """Stands between a transport and ``owner``, from the connection's first large body on.

    Args:
        owner: Gets all that is not read for ``expect``, and is told of all else that happens.
    """

    def __init__(self, owner: asyncio.Protocol) -> None:
        self._scratch = memoryview(bytearray(OTHER_BYTES))
        self._body = bytearray()
        self._rest = memoryview(b"")  # of the room, that is still to be filled
        self._size = 0
        self._reserve: Callable[[int], bool]
        self._on_whole: Callable[[bytearray], None]
        self._data_received = owner.data_received
        self.eof_received = owner.eof_received  # type: ignore[method-assign]
        self.connection_lost = owner.connection_lost  # type: ignore[method-assign]
        self.pause_writing = owner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = owner.resume_writing  # type: ignore[method-assign]

    def expect(
        self,
        size: int,
        begun: bytes,
        *,
        reserve: Callable[[int], bool],
        on_whole: Callable[[bytearray], None],
    ) -> None:
        """Read a body.

        Args:
            size: All of its bytes.
            begun: What is here of it.
            reserve: Called before room for so many more bytes is made; False if there is none, and
                then nothing more is read for this body.
            on_whole: Called with the body.
        """
        self._size, self._reserve, self._on_whole = size, reserve, on_whole
        self._body = bytearray()
        self._grow(memoryview(begun))

    def give_up(self) -> None:
        """Read no more of the body."""
        self._rest, self._body = memoryview(b""), bytearray()

    def _grow(self, filled: memoryview) -> None:
        """Make more room."""
        room = min(self._size, max(FIRST_BYTES, 2 * len(filled)))
        if not self._reserve(room - len(self._body)):
            self.give_up()
            return
        body = bytearray(room)
        body[: len(filled)] = filled
        self._body, self._rest = body, memoryview(body)[len(filled) :]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the place for what is to come (called by the loop)."""
        return self._rest or self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has come (called by the loop)."""
        if not self._rest:
            self._data_received(bytes(self._scratch[:nbytes]))
            return
        self._rest = self._rest[nbytes:]
        if self._rest:
            return
        self._rest = memoryview(b"")  # an empty piece of the body would keep all of it
        if len(self._body) < self._size:
            self._grow(memoryview(self._body))
            return
        body, self._body = self._body, bytearray()
        self._on_whole(body)
