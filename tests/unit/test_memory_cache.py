"""The cache in memory: bounded in bytes, by time, and by use."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelyard.caches.memory import ENTRY_OVERHEAD_BYTES, MemoryCache

LARGEST = 3 * ENTRY_OVERHEAD_BYTES + 30  # room for three entries with values of ten bytes


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_gives_back_what_was_put() -> None:
    cache = MemoryCache(max_bytes=LARGEST, clock=Clock())
    cache.put(b"a", b"1", ttl_s=60)
    assert cache.get(b"a") == b"1"
    assert cache.get(b"b") is None


def test_a_later_value_replaces_an_earlier_one() -> None:
    cache = MemoryCache(max_bytes=LARGEST, clock=Clock())
    cache.put(b"a", b"1", ttl_s=60)
    cache.put(b"a", b"22", ttl_s=60)
    assert cache.get(b"a") == b"22"
    assert len(cache) == 1
    assert cache.used_bytes == 2 + ENTRY_OVERHEAD_BYTES


def test_an_entry_is_gone_when_its_time_is_over() -> None:
    clock = Clock()
    cache = MemoryCache(max_bytes=LARGEST, clock=clock)
    cache.put(b"a", b"1", ttl_s=60)
    clock.now += 59.9
    assert cache.get(b"a") == b"1"
    clock.now += 0.1
    assert cache.get(b"a") is None
    assert (len(cache), cache.used_bytes) == (0, 0)


def test_the_least_recently_used_entry_leaves_first() -> None:
    cache = MemoryCache(max_bytes=LARGEST, clock=Clock())
    for key in (b"a", b"b", b"c"):
        cache.put(key, b"0123456789", ttl_s=60)
    cache.get(b"a")
    cache.put(b"d", b"0123456789", ttl_s=60)
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_a_value_larger_than_the_cache_is_not_kept() -> None:
    cache = MemoryCache(max_bytes=LARGEST, clock=Clock())
    cache.put(b"a", b"1", ttl_s=60)
    cache.put(b"b", b"x" * LARGEST, ttl_s=60)
    assert cache.get(b"b") is None
    assert cache.get(b"a") == b"1"


@pytest.mark.parametrize(("value_bytes", "is_kept"), [(10, True), (11, False)])
def test_the_bound_is_exact(value_bytes: int, is_kept: bool) -> None:
    cache = MemoryCache(max_bytes=ENTRY_OVERHEAD_BYTES + 10, clock=Clock())
    cache.put(b"a", b"x" * value_bytes, ttl_s=60)
    assert (cache.get(b"a") is not None) == is_kept


def test_a_value_too_large_to_keep_still_ends_the_one_before() -> None:
    cache = MemoryCache(max_bytes=LARGEST, clock=Clock())
    cache.put(b"a", b"1", ttl_s=60)
    cache.put(b"a", b"x" * LARGEST, ttl_s=60)
    assert cache.get(b"a") is None


@given(st.binary(), st.binary())
def test_a_cache_of_no_size_keeps_nothing(key: bytes, value: bytes) -> None:
    cache = MemoryCache(max_bytes=0, clock=Clock())
    cache.put(key, value, ttl_s=60)
    assert (len(cache), cache.used_bytes) == (0, 0)


keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])


class CacheMachine(RuleBasedStateMachine):
    """Puts and gets in any order; knows what was put last, and when that is over."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = MemoryCache(max_bytes=LARGEST, clock=self.clock)
        self.put_last: dict[bytes, tuple[float, bytes]] = {}

    @rule(key=keys, value=st.binary(max_size=LARGEST), ttl_s=st.integers(1, 10))
    def put(self, key: bytes, value: bytes, ttl_s: int) -> None:
        self.cache.put(key, value, ttl_s=ttl_s)
        self.put_last[key] = (self.clock.now + ttl_s, value)
        if len(value) + ENTRY_OVERHEAD_BYTES <= LARGEST:
            assert self.cache.get(key) == value

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        value = self.cache.get(key)
        if value is not None:
            expires, expected = self.put_last[key]
            assert value == expected
            assert expires > self.clock.now

    @rule(seconds=st.integers(1, 10))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def is_within_its_bound(self) -> None:
        assert len(self.cache) * ENTRY_OVERHEAD_BYTES <= self.cache.used_bytes <= LARGEST
        assert (self.cache.used_bytes == 0) == (len(self.cache) == 0)


def result_of(coroutine: Coroutine[Any, Any, bytes | None]) -> bytes | None:
    """Run what does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        value: bytes | None = finished.value
        return value
    raise AssertionError("it waited")


TestCache = CacheMachine.TestCase
