"""Chooses the cache of a gateway."""

from __future__ import annotations

import time

from modelyard.caches.layered import FarCache, LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.dispatch.interfaces import Cache
from modelyard.settings import Settings


def make_cache(settings: Settings, shared: FarCache | None) -> Cache | None:
    """Return the cache: one in memory, before the one that gateways share; None for none."""
    near = MemoryCache(max_bytes=settings.cache_bytes, clock=time.monotonic)
    return LayeredCache(near, shared) if near.max_bytes or shared is not None else None
