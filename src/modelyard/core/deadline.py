"""Deadlines: the moment after which an answer is of no use.

Within one machine a deadline is a reading of ``time.monotonic()`` in seconds; Linux shares that
clock between processes. Only a transport that leaves the machine turns it into wall-clock time.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from modelyard.core.errors import Malformed

LONGEST_TIMEOUT_S = 3600.0

T = TypeVar("T")


def choose_timeout(asked_s: float | None, *, model_s: float, cap_s: float) -> float:
    """Return the timeout of a request in seconds: its own, else the model's, at most ``cap_s``.

    Raises:
        Malformed: ``asked_s`` is not a number of seconds in (0, 3600].
    """
    if asked_s is None:
        return min(model_s, cap_s)
    if not 0 < asked_s <= LONGEST_TIMEOUT_S:
        raise Malformed(
            f"timeout_s must be more than 0 and at most {LONGEST_TIMEOUT_S:.0f} seconds",
            where="$.timeout_s",
        )
    return min(asked_s, cap_s)


class Deadlines(Generic[T]):
    """Items with a deadline each, kept in buckets of ``resolution_s``.

    Adding and discarding are one set operation each, so a request that is answered in time (nearly
    all are) needs no timer. In return an item expires up to one ``resolution_s`` late, never early.
    """

    def __init__(self, *, resolution_s: float = 0.01) -> None:
        self.resolution_s = resolution_s
        self._buckets: dict[int, set[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def add(self, item: T, *, deadline: float) -> int:
        """Keep ``item`` until it expires or is discarded; returns the bucket for ``discard``."""
        bucket = int(deadline / self.resolution_s) + 1
        items = self._buckets.get(bucket)
        if items is None:
            self._buckets[bucket] = {item}
        else:
            items.add(item)
        return bucket

    def discard(self, item: T, bucket: int) -> None:
        """Drop ``item``, which ``add`` put into ``bucket``."""
        items = self._buckets.get(bucket)
        if items is not None:
            items.discard(item)
            if not items:
                del self._buckets[bucket]

    def pop_expired(self, now: float) -> list[T]:
        """Remove and return the items that have expired at ``now``, the earliest first."""
        last = int(now / self.resolution_s)
        due = sorted(bucket for bucket in self._buckets if bucket <= last)
        return [item for bucket in due for item in self._buckets.pop(bucket)]
