"""A small near cache in front of a large far one; hits in the far one are copied to the near.

Path of a request: ``Dispatch.start`` calls ``get``, which calls ``Dispatch._on_found`` back: at
once, or when the far cache has answered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from modelyard.caches.memory import MemoryCache

Then = Callable[[bytes | None], None]


class FarCache(Protocol):
    """A cache outside of this process."""

    def get(self, key: bytes, then: Then) -> None:
        """Call ``then`` soon with the value of ``key``, or None if it is not available."""
        ...

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Store ``value``; returns at once."""
        ...


class LayeredCache:
    """Looks in ``near`` first; see ``dispatch.Cache``.

    Args:
        near: The cache of this process.
        far: The cache shared with other processes; None for none.
        near_ttl_s: TTL of copies in ``near``. ``far`` does not report the remaining TTL of an
            entry, so an answer may outlive its own TTL by this much.
    """

    def __init__(self, near: MemoryCache, far: FarCache | None, *, near_ttl_s: float = 5.0) -> None:
        self._near = near
        self._far = far
        self._near_ttl_s = near_ttl_s

    def get(self, key: bytes, then: Then) -> None:
        """Call ``then`` with the value of ``key`` if either layer has it, else with None."""
        value = self._near.get(key)
        if value is None and self._far is not None:
            self._far.get(key, partial(self._on_found, key, then))
        else:
            then(value)

    def _on_found(self, key: bytes, then: Then, value: bytes | None) -> None:
        if value is not None:
            self._near.put(key, value, ttl_s=self._near_ttl_s)
        else:  # it may have been answered since the other one was asked
            value = self._near.get(key)
        then(value)

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Store ``value`` in both layers."""
        self._near.put(key, value, ttl_s=ttl_s)
        if self._far is not None:
            self._far.put(key, value, ttl_s=ttl_s)
