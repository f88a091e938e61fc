"""Reads large batches from the memory that the pool shares (``pool/shared_memory.py``)."""

from __future__ import annotations

import mmap

from modelyard.core.messages import Batch, Shared, to_batch


class SharedBatches:
    """The runner's end.

    Args:
        fd: Of the memory file; None if there is none.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._view: memoryview | None = None

    def read(self, where: Shared, *, is_copied: bool) -> Batch:
        """Return a batch. Unless it is copied, its inputs are valid until it has been answered.

        Arrays are copied when they are put together. Of other instances a model may keep a view:
        msgspec makes one of ``memoryview``.
        """
        if self._view is None:
            assert self._fd is not None
            self._view = memoryview(mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ))
        frame = self._view[where.begin : where.begin + where.size]
        return to_batch.decode(bytes(frame) if is_copied else frame)
