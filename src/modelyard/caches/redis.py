"""A cache that gateways share: Redis 6.2 or newer, or Valkey. Every call has a short timeout.

Reads of one turn of the event loop are sent together. There are no retries. After ``OPEN_AFTER``
failures in a row a circuit breaker opens: the cache is skipped until it answers a ping in the
background. So a hung Redis costs a few timeouts and no more. Every failure is a miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from hashlib import blake2b
from types import TracebackType
from typing import Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from modelyard.caches.layered import Then
from modelyard.core.clock import Clock

log = logging.getLogger(__name__)

TIMEOUT_S = 0.05
READ_DEADLINE_S = 2 * TIMEOUT_S
OPEN_AFTER = 3  # failures in a row
PING_EVERY_S = 2.0  # while the breaker is open
MAX_CONNECTIONS = 8
MAX_UNWRITTEN = 1000
PREFIX = b"modelyard:1:"
_CHECK_BYTES = 8


class RedisCacheMetrics(Protocol):
    """The metrics that the cache reports."""

    def redis_event(self, event: str) -> None:
        """Count ``error``, ``skipped`` (the breaker is open), ``damaged`` and ``dropped``."""
        ...


class RedisCache:
    """Stores predictions in Redis as bytes, in the form in which they were requested.

    Args:
        url: ``redis://`` or ``rediss://``.
        metrics: Receives counts of failures.
        clock: For the time between pings.
    """

    def __init__(self, url: str, *, metrics: RedisCacheMetrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._client = Redis.from_pool(
            BlockingConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        )
        self._failures = 0
        self._ping_at = 0.0
        self._is_pinging = False
        self._reads: defaultdict[bytes, list[Then]] = defaultdict(list)
        self._writes: dict[bytes, tuple[bytes, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False

    async def __aenter__(self) -> RedisCache:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.aclose()

    def get(self, key: bytes, then: Then) -> None:
        """Call ``then`` with the value of ``key``, or with None if it is not available in time."""
        if not self._is_allowed():
            self._metrics.redis_event("skipped")
            then(None)
            return
        self._reads[key].append(then)
        self._schedule()

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Store ``value`` for ``ttl_s`` seconds; returns before it is written."""
        if not self._is_allowed() or len(self._writes) >= MAX_UNWRITTEN:
            self._metrics.redis_event("dropped")
            return
        self._writes[key] = (value, ttl_s)
        self._schedule()

    def _is_allowed(self) -> bool:
        """Return whether the breaker is closed; if it is open, ping Redis now and then."""
        if self._failures < OPEN_AFTER:
            return True
        if self._clock() >= self._ping_at and not self._is_pinging:
            self._is_pinging = True
            self._run(self._ping())
        return False

    async def _ping(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S * 2):
                await self._client.ping()
            self._failures = 0
        except (RedisError, OSError, TimeoutError):
            self._metrics.redis_event("error")
            self._ping_at = self._clock() + PING_EVERY_S
        finally:
            self._is_pinging = False

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._is_scheduled = False
        reads, self._reads = self._reads, defaultdict(list)
        writes, self._writes = self._writes, {}
        if reads:  # an upper bound, whatever the client library does
            asyncio.get_running_loop().call_later(READ_DEADLINE_S, self._answer, reads, {})
        self._run(self._call(reads, writes))

    async def _call(
        self,
        reads: dict[bytes, list[Then]],
        writes: dict[bytes, tuple[bytes, float]],
    ) -> None:
        """Send the reads and writes of one turn together; answer every reader in any case."""
        found: dict[bytes, bytes | None] = {}
        keys = list(reads)
        try:
            async with asyncio.timeout(READ_DEADLINE_S), self._client.pipeline(False) as pipeline:
                if keys:
                    pipeline.mget([PREFIX + key for key in keys])
                for key, (value, ttl_s) in writes.items():
                    pipeline.set(PREFIX + key, _seal(key, value), px=max(1, int(ttl_s * 1000)))
                results = await pipeline.execute(raise_on_error=False)
            if keys and not isinstance(results[0], Exception):
                found = dict(zip(keys, results[0], strict=True))
            if any(isinstance(result, Exception) for result in results):
                self._metrics.redis_event("error")  # full, or read-only: reads may be fine
            self._failures = 0
        except (RedisError, OSError, TimeoutError) as error:
            self._on_failure(error)
        finally:
            self._answer(reads, found)

    def _answer(self, reads: dict[bytes, list[Then]], found: dict[bytes, bytes | None]) -> None:
        """Answer the readers that still wait."""
        for key in list(reads):
            thens = reads.pop(key)
            value = self._open(key, found.get(key))
            for then in thens:
                _tell(then, value)

    def _open(self, key: bytes, sealed: bytes | None) -> bytes | None:
        """Return the value in ``sealed`` if its checksum matches, else None."""
        if sealed is None:
            return None
        value = sealed[_CHECK_BYTES:]
        if sealed != _seal(key, value):
            self._metrics.redis_event("damaged")
            return None
        return value

    def _on_failure(self, error: BaseException) -> None:
        self._metrics.redis_event("error")
        self._failures += 1
        if self._failures == OPEN_AFTER:
            log.warning("cache_left_alone", extra={"error": repr(error)})
            self._ping_at = self._clock() + PING_EVERY_S


def _tell(then: Then, value: bytes | None) -> None:
    """Call a reader; if it raises, the others must still be called."""
    try:
        then(value)
    except Exception:
        log.exception("cache_reader_failed")


def _seal(key: bytes, value: bytes) -> bytes:
    """Prepend a checksum of key and value, which also detects a value under the wrong key."""
    return blake2b(value, digest_size=_CHECK_BYTES, key=key).digest() + value
