"""Two caches, one behind the other."""

from __future__ import annotations

from modelyard.caches.layered import LayeredCache, Then
from modelyard.caches.memory import MemoryCache


class Far:
    """A shared cache that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Then] = []

    def get(self, key: bytes, then: Then) -> None:
        self.asked.append(then)

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        pass


def test_what_is_answered_while_the_shared_cache_is_asked_is_found() -> None:
    far, found = Far(), list[bytes | None]()
    cache = LayeredCache(MemoryCache(max_bytes=1000, clock=lambda: 0.0), far)
    cache.get(b"k", found.append)
    cache.put(b"k", b"[7]", ttl_s=60)
    far.asked[0](None)
    cache.get(b"other", found.append)
    far.asked[1](None)
    assert found == [b"[7]", None]
