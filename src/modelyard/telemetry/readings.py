"""What the metrics count of each target, as plain numbers: for pages, which look at them often."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import TypeAlias

from prometheus_client import Histogram

from modelyard.core.names import Target
from modelyard.telemetry.collectors import Histograms, Labels, Tallies

Reading: TypeAlias = "array[float]"
"""Sums since the start of the process, in this order; the latency's buckets follow."""

OK, FAILED, HITS, ASKED, SECONDS, QUEUED, QUEUE_S, CALLS, INSTANCES, BATCHES, MODEL_S = range(11)
"""Requests answered well, and not; those that the cache answered, of so many that it was asked;
seconds from arrival to answer; requests that a pool had, and how long they waited; calls of
``predict``, instances in them; batches, and seconds in ``predict``."""
FIRST_BUCKET = 11

_HIT = frozenset(("hit", "coalesced"))


class Readings:
    """Reads the counters of all targets at once.

    Args:
        requests: By model, version and code.
        cache: By model, version and use.
        latency: Of requests.
        queue_wait: In the pool.
        batch_size: Instances of each call.
        model_time: Of each batch.
    """

    def __init__(
        self,
        *,
        requests: Tallies,
        cache: Tallies,
        latency: Histograms,
        queue_wait: Histograms,
        batch_size: Histogram,
        model_time: Histogram,
    ) -> None:
        self._requests = requests
        self._cache = cache
        self._latency = latency
        self._queue_wait = queue_wait
        self._of_pools = (batch_size, model_time)
        self._known: dict[Target, Reading] = {}
        self.bounds: tuple[float, ...] = latency.bounds

    def read(self) -> Mapping[Target, Reading]:
        """Return the reading of each target that was ever asked. One that has not changed since the
        last call is the same object.
        """
        made: dict[Labels, Reading] = {}

        def of(labels: Labels) -> Reading:
            found = made.get(labels[:2])
            if found is None:
                size = FIRST_BUCKET + len(self.bounds) + 1
                found = made[labels[:2]] = array("d", bytes(8 * size))
            return found

        for labels, count in self._requests.items():
            of(labels)[OK if labels[2] == "ok" else FAILED] += count
        for labels, count in self._cache.items():
            reading = of(labels)
            reading[ASKED] += count
            if labels[2] in _HIT:
                reading[HITS] += count
        for labels, counts, total in self._latency.items():
            reading = of(labels)
            reading[SECONDS] = total
            reading[FIRST_BUCKET:] = array("d", counts)
        for labels, counts, total in self._queue_wait.items():
            reading = of(labels)
            reading[QUEUED], reading[QUEUE_S] = sum(counts), total
        self._known = {
            Target(*labels): self._completed(Target(*labels), reading)
            for labels, reading in made.items()
            if labels[0]
        }
        return self._known

    def codes(self, sees: Callable[[str], bool]) -> dict[Target, dict[str, int]]:
        """Return how often each problem was answered, by target, of models that ``sees`` names."""
        found: dict[Target, dict[str, int]] = {}
        for (name, version, code), count in self._requests.items():
            if code != "ok" and name and sees(name):
                found.setdefault(Target(name, version), {})[code] = count
        return found

    def _completed(self, target: Target, reading: Reading) -> Reading:
        """Add what the pools count: slowly, so for those alone that have answered since."""
        before = self._known.get(target)
        if before is not None and all(before[i] == reading[i] for i in (OK, FAILED, QUEUED)):
            reading[CALLS : MODEL_S + 1] = before[CALLS : MODEL_S + 1]
        elif reading[QUEUED]:
            sizes, times = (_sum_of(h, target) for h in self._of_pools)
            reading[CALLS], reading[INSTANCES] = sizes
            reading[BATCHES], reading[MODEL_S] = times
        return before if before == reading and before is not None else reading


def _sum_of(histogram: Histogram, target: Target) -> tuple[float, float]:
    """Return how many values a histogram has of a target, and their sum."""
    count = total = 0.0
    for family in histogram.labels(target.name, target.version).collect():
        for sample in family.samples:
            if sample.name.endswith("_count"):
                count = sample.value
            elif sample.name.endswith("_sum"):
                total = sample.value
    return count, total
