"""A board in Redis, where gateways see how much is asked of each other (``access/shares.py``)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from modelyard.core.clock import WallClock

KEY = b"modelyard:1:demand"
STALE_S = 3.0  # of a gateway that is gone
TIMEOUT_S = 0.5

Demands = Mapping[str, tuple[float, float]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[float, dict[str, tuple[float, float]]]).decode


class RedisBoard:
    """One hash, in which each gateway has a field.

    Args:
        url: ``redis://`` or ``rediss://``.
        name: Of this gateway.
        wall_clock: Unix time, in seconds; gateways' clocks may differ by a second or so.
    """

    def __init__(self, url: str, *, name: str, wall_clock: WallClock) -> None:
        self._name = name.encode()
        self._wall_clock = wall_clock
        self._client = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

    async def exchange(self, demands: Demands) -> list[Demands]:
        """See ``access.shares.Board``."""
        now = self._wall_clock()
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.hset(KEY, self._name, _encode((now, demands)))
                pipe.hgetall(KEY)
                _, found = await pipe.execute()
            others: list[Demands] = []
            stale: list[bytes] = []
            for name, text in found.items():
                at, told = _decode(text)
                if abs(now - at) > STALE_S:
                    stale.append(name)
                elif name != self._name:
                    others.append(told)
            if stale:
                await self._client.hdel(KEY, *stale)
        except (RedisError, TimeoutError, msgspec.MsgspecError) as error:
            raise OSError(str(error)) from error
        return others

    async def close(self) -> None:
        """Take this gateway off the board."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.hdel(KEY, self._name)
        await self._client.aclose()
