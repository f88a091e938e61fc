"""Memory that a pool shares with one runner, for large batches.

The socket would copy a batch twice, through many small buffers; here it is copied once. A runner
has two batches at most, one that runs and one that is next. So there are two halves, used in turns.
"""

from __future__ import annotations

import contextlib
import mmap
import os

from modelyard.core.messages import (
    LARGE_BYTES,
    Batch,
    Shared,
    encode_batch,
    encode_frame,
    pieces_of,
)

HALF_BYTES = 8 << 20  # a larger batch goes through the socket
STEP_BYTES = 1 << 20  # by which the part of a half that has memory behind it grows


class SharedMemory:
    """The pool's end: writes batches. No memory is taken before there is a large one.

    Args:
        fd: Of a memory file, which this closes; None if the system has none.
    """

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self._view: memoryview | None = None
        self._held = [0, 0]  # bytes of each half that have memory behind them
        self._half = 0

    @classmethod
    def open(cls) -> SharedMemory:
        """Make a memory file, if the system can."""
        fd = None
        with contextlib.suppress(AttributeError, OSError):
            fd = os.memfd_create("modelyard")
        return cls(fd)

    def encode(self, batch: Batch) -> list[bytes | bytearray | memoryview]:
        """Return what is to be sent of a batch; a large one is written to the memory before."""
        if sum(map(len, batch.inputs)) < LARGE_BYTES:
            return [encode_frame(batch)]
        pieces = pieces_of(batch)
        size = sum(map(len, pieces))
        half = self._half = 1 - self._half
        if not self._has_room(half, size):
            return encode_batch(batch)
        assert self._view is not None
        at = begin = half * HALF_BYTES
        for piece in pieces:
            self._view[at : at + len(piece)] = piece
            at += len(piece)
        return [encode_frame(Shared(begin, size))]

    def close(self) -> None:
        """Let go of the memory."""
        if self.fd is not None:
            os.close(self.fd)
        self.fd = self._view = None

    def _has_room(self, half: int, size: int) -> bool:
        """Return whether a half holds so many bytes, after taking more memory if it is needed."""
        if size > HALF_BYTES or self.fd is None:
            return False
        if size <= self._held[half]:
            return True
        room = -(-size // STEP_BYTES) * STEP_BYTES
        try:
            if self._view is None:
                os.ftruncate(self.fd, 2 * HALF_BYTES)
                self._view = memoryview(mmap.mmap(self.fd, 2 * HALF_BYTES))
            # Without this, a lack of memory would end the process when it writes.
            os.posix_fallocate(self.fd, half * HALF_BYTES, room)
        except OSError:
            return False
        self._held[half] = room
        return True
