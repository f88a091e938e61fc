"""Counters and histograms for what happens on every request.

The library's own take a lock and walk the buckets: 0.5 µs per counter and 1.2 µs per histogram, of
the 12 µs that a cached answer takes in all of our code. These may be updated by the event loop's
thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

Labels = tuple[str, ...]


class Tallies(Collector):
    """A counter per tuple of label values."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._about = (name, documentation, list(labels))
        self._counts: defaultdict[Labels, int] = defaultdict(int)

    def count(self, labels: Labels) -> None:
        """Add one."""
        self._counts[labels] += 1

    def items(self) -> list[tuple[Labels, int]]:
        """Return all counts."""
        return list(self._counts.items())

    def collect(self) -> Iterator[Metric]:
        """Return what is scraped."""
        name, documentation, names = self._about
        family = CounterMetricFamily(name, documentation, labels=names)
        for labels, count in self.items():
            family.add_metric(list(labels), count)
        yield family


class Histograms(Collector):
    """A histogram per tuple of label values; ``bounds`` are the buckets' upper limits, sorted."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, bounds: Sequence[float]
    ) -> None:
        self._about = (name, documentation, list(labels))
        self._bounds = list(bounds)
        self._names = [*(repr(float(bound)) for bound in bounds), "+Inf"]
        self._counts: defaultdict[Labels, list[int]] = defaultdict(lambda: [0] * len(self._names))
        self._sums: defaultdict[Labels, float] = defaultdict(float)
        self._exemplars: dict[Labels, dict[int, Exemplar]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Record a value."""
        self._counts[labels][bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def illustrate(self, labels: Labels, exemplar: Exemplar) -> None:
        """Name an example of the values that have been recorded."""
        self._exemplars.setdefault(labels, {})[bisect_left(self._bounds, exemplar.value)] = exemplar

    @property
    def has_exemplars(self) -> bool:
        """Whether there is an example of any value."""
        return bool(self._exemplars)

    @property
    def bounds(self) -> tuple[float, ...]:
        """The buckets' upper limits; one more bucket has no limit."""
        return tuple(self._bounds)

    def items(self) -> list[tuple[Labels, list[int], float]]:
        """Return counts by bucket, and sums."""
        return [(labels, counts, self._sums[labels]) for labels, counts in [*self._counts.items()]]

    def collect(self) -> Iterator[Metric]:
        """Return what is scraped."""
        name, documentation, names = self._about
        family = HistogramMetricFamily(name, documentation, labels=names)
        for labels, counts, total in self.items():
            told = self._exemplars.get(labels, {})
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for name, count in zip(self._names, accumulate(counts), strict=True):
                known = told.get(len(buckets))
                plain = (name, float(count))
                buckets.append(plain if known is None else (*plain, known))
            family.add_metric(list(labels), buckets, total)
        yield family
