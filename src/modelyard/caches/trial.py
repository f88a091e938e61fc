"""Tries at a Redis what a gateway does there, for ``modelyard doctor``."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from modelyard.caches.board import KEY
from modelyard.caches.redis import PREFIX

PATIENCE_S = 3.0
_KEPT_S = 10


class TrialError(Exception):
    """The cache cannot be used; the text says why."""


class Seen(NamedTuple):
    """What there is of a cache; what its user may not see is None.

    Attributes:
        version: Of the server.
        ahead_s: How far its clock is ahead of ours, in seconds.
        trip_s: What a call takes, in seconds.
        policy: What it removes once its memory is full.
        used_bytes: The memory that it uses.
        most_bytes: The memory that it may use; 0 for all.
    """

    version: str | None
    ahead_s: float | None
    trip_s: float
    policy: str | None
    used_bytes: int
    most_bytes: int


def look(url: str) -> Seen:
    """Write a value and read it, as a gateway does; it is removed again.

    Raises:
        TrialError: It cannot be reached, or refuses us.
    """
    try:
        with Redis.from_url(
            url,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            key, value = PREFIX + b"doctor:" + secrets.token_bytes(8), secrets.token_bytes(8)
            client.set(key, value, ex=_KEPT_S)
            begin = time.perf_counter()
            if client.mget([key]) != [value]:
                raise TrialError("it does not give back what was written")
            trip_s = time.perf_counter() - begin
            client.delete(key)
            client.hgetall(KEY)
            ahead_s = _ahead(client)
            told = _told(client)
    except (RedisError, OSError, ValueError) as error:
        raise TrialError(str(error) or repr(error)) from error
    return Seen(
        version=told.get("redis_version"),
        ahead_s=ahead_s,
        trip_s=trip_s,
        policy=told.get("maxmemory_policy"),
        used_bytes=int(told.get("used_memory", 0)),
        most_bytes=int(told.get("maxmemory", 0)),
    )


def _ahead(client: Redis) -> float | None:
    try:
        before = time.time()
        seconds, micros = client.time()
        now = (before + time.time()) / 2
    except RedisError:  # this user may not ask
        return None
    return float(seconds + micros / 1e6 - now)


def _told(client: Redis) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in client.info().items()}
    except RedisError:
        return {}
