"""The last hour of a gateway's own metrics, in memory.

A task takes a reading every ``EVERY_S`` seconds; requests cost nothing more. Readings are sums
since the start, so that the figures of any window are those of its end less those of its beginning.
A target that has not been asked meanwhile shares its reading with the one before: what is kept
grows with what is asked, by 0.3 kB for each target and reading.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import add, sub
from typing import NamedTuple

from modelyard.core.clock import Clock
from modelyard.core.names import Target
from modelyard.telemetry.readings import (
    ASKED,
    BATCHES,
    CALLS,
    FAILED,
    FIRST_BUCKET,
    HITS,
    INSTANCES,
    MODEL_S,
    OK,
    QUEUE_S,
    QUEUED,
    SECONDS,
    Reading,
    Readings,
)

EVERY_S = 10.0
KEPT_S = 3600.0

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """What happened to some targets within some time.

    Attributes:
        at: When it ended, as Unix time, in seconds.
        seconds: How long it is.
        sums: See ``readings.py``.
        bounds: Upper limits of the latency's buckets, in seconds.
    """

    at: float
    seconds: float
    sums: Reading
    bounds: Sequence[float]

    @property
    def requests(self) -> float:
        """Requests that were answered, well or not."""
        return self.sums[OK] + self.sums[FAILED]

    @property
    def failed(self) -> float:
        """Of those, how many got a problem."""
        return self.sums[FAILED]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def errors(self) -> float | None:
        """The share that failed; None if there were none."""
        return self._mean(FAILED, self.requests)

    @property
    def hits(self) -> float | None:
        """The share of cacheable requests that the cache answered; None if there were none."""
        return self._mean(HITS, self.sums[ASKED])

    @property
    def mean_s(self) -> float | None:
        """Mean seconds from arrival to answer; None if nothing was answered."""
        return self._mean(SECONDS, sum(self.sums[FIRST_BUCKET:]))

    @property
    def queue_s(self) -> float | None:
        """Mean seconds that requests waited for a runner here; None if no pool here had any."""
        return self._mean(QUEUE_S, self.sums[QUEUED])

    @property
    def model_s(self) -> float | None:
        """Mean seconds in ``predict``, per batch; None if no pool here ran any."""
        return self._mean(MODEL_S, self.sums[BATCHES])

    @property
    def batch_size(self) -> float | None:
        """Mean number of instances in a call of ``predict``; None if there was none here."""
        return self._mean(INSTANCES, self.sums[CALLS])

    def quantile(self, share: float) -> float | None:
        """Return the latency, in seconds, that this share of requests stayed under: as precise as
        the buckets are. None if nothing was answered.
        """
        counts = self.sums[FIRST_BUCKET:]
        wanted, below = share * sum(counts), 0.0
        if not wanted:
            return None
        lower = 0.0
        for count, upper in zip(counts, self.bounds, strict=False):
            if count and below + count >= wanted:
                return lower + (upper - lower) * (wanted - below) / count
            below, lower = below + count, upper
        return self.bounds[-1]

    def _mean(self, index: int, count: float) -> float | None:
        return self.sums[index] / count if count > 0 else None


class Moment(NamedTuple):
    """Readings at one time; ``at``: Unix time, in seconds."""

    at: float
    readings: Mapping[Target, Reading]


class View:
    """What is known at one time.

    Attributes:
        at: Unix time, in seconds.
    """

    def __init__(self, moments: Sequence[Moment], bounds: Sequence[float]) -> None:
        self._moments = moments
        self._bounds = bounds
        self._nothing = array("d", bytes(8 * (FIRST_BUCKET + len(bounds) + 1)))
        self.at = moments[-1].at

    def window(self, targets: Collection[Target], seconds: float) -> Window:
        """Return what happened to targets in the last seconds, or since the start."""
        end = self._moments[-1]
        begin = next((m for m in reversed(self._moments) if m.at <= end.at - seconds), None)
        return self._series([begin or self._moments[0], end], targets)[0]

    def series(self, targets: Collection[Target], *, points: int) -> list[Window]:
        """Return the kept time in equal parts, the newest last."""
        return self._series(self._parted(points), targets)

    def rates(self, target: Target, *, points: int) -> list[float]:
        """Return the requests per second of one target in each part of the kept time."""
        found = [(m.at, m.readings.get(target, self._nothing)) for m in self._parted(points)]
        counts = [(at, reading[OK] + reading[FAILED]) for at, reading in found]
        return [(now - was) / (end - begin) for (begin, was), (end, now) in pairwise(counts)]

    def _parted(self, points: int) -> list[Moment]:
        moments = list(self._moments)
        if len(moments) > 2 and moments[-1].at - moments[-2].at < EVERY_S / 2:
            del moments[-2]  # what happened in a moment is no rate
        step = max(1, -(-(len(moments) - 1) // points))
        return moments[::-step][::-1]

    def _series(self, moments: Iterable[Moment], targets: Collection[Target]) -> list[Window]:
        sums = [(moment.at, self._sum(moment, targets)) for moment in moments]
        return [
            Window(end, end - begin, array("d", map(sub, now, was)), self._bounds)
            for (begin, was), (end, now) in pairwise(sums)
        ]

    def _sum(self, moment: Moment, targets: Collection[Target]) -> Reading:
        found = (moment.readings.get(target) for target in targets)
        sums: Iterable[float] = self._nothing
        for reading in found:
            if reading is not None:
                sums = list(map(add, sums, reading))
        return array("d", sums)


class History:
    """Keeps the last hour.

    Args:
        readings: What is kept.
        wall_clock: Unix time, in seconds.

    Attributes:
        moments: The readings that are kept, the newest last.
    """

    def __init__(self, readings: Readings, *, wall_clock: Clock) -> None:
        self._readings = readings
        self._wall_clock = wall_clock
        size = int(KEPT_S / EVERY_S) + 1
        self.moments = deque([Moment(wall_clock(), {})], maxlen=size)

    async def run(self) -> None:
        """Take readings until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await asyncio.to_thread(self.take)
            except Exception:  # a page without history is better than none
                log.exception("history_not_kept")

    def take(self) -> None:
        """Take a reading."""
        self.moments.append(self._read())

    def view(self) -> View:
        """Return what is known now. Takes some ms with hundreds of models."""
        return View([*self.moments, self._read()], self._readings.bounds)

    def _read(self) -> Moment:
        return Moment(self._wall_clock(), self._readings.read())
