"""A small near cache before a large far one. What the far one knows is kept near as well."""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    """Either layer; see ``dispatch.Cache``."""

    async def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None: ...


class LayeredCache:
    """Asks ``near`` first.

    Args:
        near: In this process.
        far: Shared with other processes.
        near_ttl_s: How long what came from ``far`` is kept near: the far layer knows how long it is
            good for and does not say, so this is what an answer may outlive its time by.
    """

    def __init__(self, near: Cache, far: Cache, *, near_ttl_s: float = 5.0) -> None:
        self._near = near
        self._far = far
        self._near_ttl_s = near_ttl_s

    async def get(self, key: bytes) -> bytes | None:
        """Give the value of ``key`` if either layer has it."""
        value = await self._near.get(key)
        if value is None:
            value = await self._far.get(key)
            if value is not None:
                self._near.put(key, value, ttl_s=self._near_ttl_s)
        return value

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep ``value`` in both layers."""
        self._near.put(key, value, ttl_s=ttl_s)
        self._far.put(key, value, ttl_s=ttl_s)
