"""Receives large bodies directly into their buffer.

An ordinary asyncio protocol gets each read as a new bytes object, and the pieces are joined, so a
body is copied twice. Here it is copied once at most, and not at all up to ``FIRST_BYTES``.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

DIRECT_BYTES = 64 * 1024  # a body with more than this outstanding is read this way
FIRST_BYTES = 1 << 20  # first size of the buffer; it then grows to twice the received size
OTHER_BYTES = 16 * 1024  # size of a read for everything else

# ``bytearray(n)`` writes n zeros, and what is received is written over each of them.
_new_buffer = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_buffer.restype, _new_buffer.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)


class DirectReader(asyncio.BufferedProtocol):
    """Sits between a transport and ``owner``, from the connection's first large body on.

    Args:
        owner: Gets all other data and all other events.
    """

    def __init__(self, owner: asyncio.Protocol) -> None:
        self._scratch = memoryview(bytearray(OTHER_BYTES))
        self._body = bytearray()
        self._rest = memoryview(b"")  # the unfilled part of the buffer
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
            size: Its size in bytes.
            begun: The bytes received so far.
            reserve: Called with a number of bytes before they are allocated; False ends the reading
                of this body.
            on_whole: Called with the body.
        """
        self._size, self._reserve, self._on_whole = size, reserve, on_whole
        self._body = bytearray()
        self._grow(memoryview(begun))

    def give_up(self) -> None:
        """Stop reading the body."""
        self._rest, self._body = memoryview(b""), bytearray()

    def _grow(self, filled: memoryview) -> None:
        """Grow the buffer."""
        room = min(self._size, max(FIRST_BYTES, 2 * len(filled)))
        if not self._reserve(room - len(self._body)):
            self.give_up()
            return
        body = _new_buffer(None, room)
        body[: len(filled)] = filled
        self._body, self._rest = body, memoryview(body)[len(filled) :]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next read (called by the loop)."""
        return self._rest or self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Process a read (called by the loop)."""
        if not self._rest:
            self._data_received(bytes(self._scratch[:nbytes]))
            return
        self._rest = self._rest[nbytes:]
        if self._rest:
            return
        self._rest = memoryview(b"")  # even an empty slice would keep the whole body alive
        if len(self._body) < self._size:
            self._grow(memoryview(self._body))
            return
        body, self._body = self._body, bytearray()
        self._on_whole(body)
