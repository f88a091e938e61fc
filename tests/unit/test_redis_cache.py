"""The cache that gateways share: never waited for long, and left alone while it fails."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from modelyard.caches.layered import LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.caches.redis import (
    MAX_UNWRITTEN,
    OPEN_AFTER,
    PING_EVERY_S,
    READ_DEADLINE_S,
    RedisCache,
)
from tests.unit.asking import Clock, settle


class FakeRedis:
    """Redis and its client, as far as the cache uses them.

    Attributes:
        failure: Raised in place of an answer.
        refusal: What it answers to writes, if it takes none.
        is_hanging: Whether it does not answer at all.
        trips: How many commands went out together, each time.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.failure: Exception | None = None
        self.refusal: Exception | None = None
        self.is_hanging = self.is_closed = False
        self.trips: list[int] = []
        self.pings = 0

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.is_hanging:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure

    async def ping(self) -> None:
        self.pings += 1
        await self._answer()

    async def aclose(self) -> None:
        self.is_closed = True

    def pipeline(self, is_transaction: bool) -> Pipeline:
        assert not is_transaction
        return Pipeline(self)


class Pipeline:
    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._commands: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def mget(self, keys: list[bytes]) -> None:
        self._commands.append((keys,))

    def set(self, key: bytes, value: bytes, *, px: int) -> None:
        assert px > 0
        self._commands.append((key, value))

    async def execute(self, *, raise_on_error: bool) -> list[object]:
        assert not raise_on_error
        redis = self._redis
        redis.trips.append(len(self._commands))
        await redis._answer()
        results: list[object] = []
        for command in self._commands:
            if len(command) == 1:
                results.append([redis.values.get(key) for key in command[0]])
            elif redis.refusal is None:
                redis.values[command[0]] = command[1]
                results.append(True)
            else:
                results.append(redis.refusal)
        return results


class Caching:
    """A cache before a Redis that is none.

    Attributes:
        events: What went wrong.
        found: What readers were told.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.redis, self.clock = FakeRedis(), Clock()
        self.events: list[str] = []
        self.found: list[bytes | None] = []
        monkeypatch.setattr(Redis, "from_pool", lambda _: self.redis)
        asyncio.get_running_loop().time = self.clock  # type: ignore[method-assign]
        self.cache = RedisCache("redis://cache", metrics=self, clock=self.clock)

    def redis_event(self, event: str) -> None:
        self.events.append(event)

    def get(self, key: bytes) -> None:
        self.cache.get(key, self.found.append)

    async def got(self, key: bytes) -> bytes | None:
        self.get(key)
        await settle()
        return self.found[-1]

    async def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        await settle()


@pytest.fixture
async def caching(monkeypatch: pytest.MonkeyPatch) -> Caching:
    return Caching(monkeypatch)


async def test_what_was_put_is_found_by_all(caching: Caching) -> None:
    caching.cache.put(b"key", b"value", ttl_s=0.0001)
    await settle()
    assert await caching.got(b"key") == b"value"
    assert await caching.got(b"other") is None
    async with caching.cache as cache:
        cache.put(b"last", b"value", ttl_s=9)
        await asyncio.sleep(0)  # it is on its way now, and waited for
    assert caching.redis.is_closed
    assert len(caching.redis.values) == 2
    assert caching.events == []


async def test_what_is_asked_in_one_turn_goes_out_together(caching: Caching) -> None:
    for key in (b"a", b"a", b"b"):
        caching.get(key)
    caching.cache.put(b"c", b"value", ttl_s=9)
    await settle()
    assert caching.redis.trips == [2]
    assert caching.found == [None] * 3


async def test_a_value_that_was_damaged_or_stands_under_another_key_is_a_miss(
    caching: Caching,
) -> None:
    caching.cache.put(b"a", b"value", ttl_s=9)
    await settle()
    ((key, sealed),) = caching.redis.values.items()
    caching.redis.values[key.replace(b"a", b"b")] = sealed
    caching.redis.values = {k.replace(b":a", b":b"): v for k, v in caching.redis.values.items()}
    assert await caching.got(b"b") is None
    assert caching.events == ["damaged"]


async def test_a_redis_that_hangs_is_waited_for_only_so_long(caching: Caching) -> None:
    caching.redis.is_hanging = True
    caching.get(b"key")
    await settle()
    assert caching.found == []
    await caching.pass_time(READ_DEADLINE_S)
    assert caching.found == [None]


async def test_a_redis_that_fails_is_left_alone_until_it_answers_a_ping(
    caching: Caching, caplog: pytest.LogCaptureFixture
) -> None:
    caching.redis.failure = OSError("connection refused")
    for _ in range(OPEN_AFTER):
        assert await caching.got(b"key") is None
    assert [record.message for record in caplog.records] == ["cache_left_alone"]
    assert await caching.got(b"key") is None
    caching.cache.put(b"key", b"value", ttl_s=9)
    assert caching.events[OPEN_AFTER:] == ["skipped", "dropped"]
    assert (len(caching.redis.trips), caching.redis.pings) == (OPEN_AFTER, 0)
    await caching.pass_time(PING_EVERY_S)
    for _ in range(2):
        await caching.got(b"key")
    assert caching.redis.pings == 1  # it failed: the next is not due yet
    caching.redis.failure = None
    await caching.pass_time(PING_EVERY_S)
    await caching.got(b"key")
    caching.cache.put(b"key", b"value", ttl_s=9)
    await settle()
    assert await caching.got(b"key") == b"value"


async def test_a_redis_that_is_full_still_answers_what_it_has(caching: Caching) -> None:
    caching.cache.put(b"a", b"value", ttl_s=9)
    await settle()
    caching.redis.refusal = ResponseError("OOM")
    caching.get(b"a")
    caching.cache.put(b"b", b"value", ttl_s=9)
    await settle()
    assert (caching.found, caching.events) == ([b"value"], ["error"])


async def test_what_cannot_be_written_soon_is_dropped(caching: Caching) -> None:
    for number in range(MAX_UNWRITTEN + 1):
        caching.cache.put(b"%d" % number, b"value", ttl_s=9)
    await settle()
    assert caching.events == ["dropped"]
    assert len(caching.redis.values) == MAX_UNWRITTEN


async def test_a_reader_s_defect_is_its_own(
    caching: Caching, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(value: bytes | None) -> None:
        raise ValueError("a defect")

    caching.cache.get(b"key", fail)
    caching.get(b"key")
    await settle()
    assert caching.found == [None]
    assert "a defect" in caplog.text


async def test_what_the_far_cache_knows_is_kept_near_for_a_while(caching: Caching) -> None:
    near = MemoryCache(max_bytes=1000, clock=caching.clock)
    layered = LayeredCache(near, caching.cache, near_ttl_s=5)
    caching.cache.put(b"key", b"value", ttl_s=60)
    await settle()
    found: list[bytes | None] = []
    for _ in range(2):
        layered.get(b"key", found.append)
        await settle()
    assert (found, len(caching.redis.trips)) == ([b"value"] * 2, 2)
    await caching.pass_time(6)
    layered.get(b"key", found.append)
    layered.get(b"other", found.append)
    layered.put(b"other", b"new", ttl_s=60)
    layered.get(b"other", found.append)
    await settle()
    # What was put meanwhile is found, so that the model is not asked again.
    assert found[2:] == [b"new", b"value", b"new"]
