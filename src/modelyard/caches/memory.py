"""A cache in this process: bounded in bytes, evicts the least recently used, one TTL per entry."""

from __future__ import annotations

from collections import OrderedDict

from modelyard.core.clock import Clock

ENTRY_OVERHEAD_BYTES = 270  # key, value header, tuple, float, slot: measured on CPython 3.11


class MemoryCache:
    """Stores predictions as bytes, in the form in which they were requested.

    Args:
        max_bytes: Upper bound on the size of all entries, overhead included; 0 stores nothing.
        clock: For TTLs.
    """

    def __init__(self, *, max_bytes: int, clock: Clock) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of ``key``, or None if it is missing or expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Store ``value`` for ``ttl_s`` seconds; it may be evicted earlier."""
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
