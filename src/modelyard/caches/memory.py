"""A cache in this process: bounded in bytes, least recently used out first, a time per entry."""

from __future__ import annotations

from collections import OrderedDict

from modelyard.core.clock import Clock

ENTRY_OVERHEAD_BYTES = 270  # key, value header, tuple, float, slot: measured on CPython 3.11


class MemoryCache:
    """Keeps predictions, as bytes in the form in which they were asked for.

    Args:
        max_bytes: What all entries may take together, their overhead included; 0 keeps nothing.
        clock: Gives seconds that never go back.
    """

    def __init__(self, *, max_bytes: int, clock: Clock) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """Give the value of ``key``, or None if it is not there or its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep ``value`` for ``ttl_s`` seconds, or less if room is needed."""
        if key in self._entries:
            self._remove(key)
        size = len(value) + ENTRY_OVERHEAD_BYTES
        if size > self.max_bytes:
            return
        while self.used_bytes + size > self.max_bytes:
            self._remove(next(iter(self._entries)))
        self._entries[key] = (self._clock() + ttl_s, value)
        self.used_bytes += size

    def _remove(self, key: bytes) -> None:
        _, value = self._entries.pop(key)
        self.used_bytes -= len(value) + ENTRY_OVERHEAD_BYTES
