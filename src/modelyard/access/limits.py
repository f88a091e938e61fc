"""How much a key may ask: requests per second with a burst, and requests in flight.

Each gateway counts for itself, so several of them allow as many times as much.
"""

from __future__ import annotations

import math

import msgspec

from modelyard.core.clock import Clock
from modelyard.core.errors import RateLimited


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a key; None for none.

    Attributes:
        rate: Requests per second, on the average.
        burst: Requests at once, after a pause; as many as in a second unless given.
        in_flight: Requests that are not answered yet.
    """

    rate: float | None = None
    burst: int | None = None
    in_flight: int | None = None

    def __post_init__(self) -> None:
        given = (self.rate, self.burst, self.in_flight)
        if any(value is not None and not 0 < value < math.inf for value in given):
            raise ValueError("limits are positive numbers")
        if self.burst is not None and self.rate is None:
            raise ValueError("burst needs rate")


NO_LIMITS = Limits()


class Meter:
    """Counts what one key asks: a token bucket, and the requests in flight.

    Args:
        limits: The key's.
        clock: A monotonic clock.
    """

    def __init__(self, limits: Limits, *, clock: Clock) -> None:
        self.limits = limits
        self.in_flight = 0
        self._clock = clock
        self._size = float(limits.burst or max(1.0, limits.rate or 1.0))
        self._tokens = self._size
        self._filled = clock()

    def enter(self) -> None:
        """Count a request.

        Raises:
            RateLimited: It is one too many; says when to try again.
        """
        limits = self.limits
        if limits.in_flight is not None and self.in_flight >= limits.in_flight:
            detail = f"the key has {self.in_flight} requests in flight, and may have no more"
            raise RateLimited(detail, retry_after_s=1)
        if limits.rate is not None:
            now = self._clock()
            grown = self._tokens + (now - self._filled) * limits.rate
            self._tokens, self._filled = min(self._size, grown), now
            if self._tokens < 1:
                wait_s = math.ceil((1 - self._tokens) / limits.rate)
                detail = f"the key may ask {limits.rate:g} times per second"
                raise RateLimited(detail, retry_after_s=max(1, wait_s))
            self._tokens -= 1
        self.in_flight += 1

    def leave(self, _: object = None) -> None:
        """Count a request that is answered."""
        self.in_flight -= 1
