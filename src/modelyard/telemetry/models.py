"""What models measure of their own, added up over the runners of each target.

A counter and a histogram keep what a runner has said when it is gone, so they never go back. A
gauge is the sum over the runners that are up.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.registry import Collector

from modelyard.core.measured import (
    MOST_SERIES,
    Drop,
    Labels,
    Measure,
    Series,
    are_labels,
    is_metric,
)
from modelyard.core.messages import Measured
from modelyard.core.names import Target

log = logging.getLogger(__name__)

PREFIX = "model_"  # no name of ours or of the library's begins so

_Key = tuple[Target, Labels]


class ModelMetrics(Collector):
    """The metrics of all models of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families: dict[str, _Family] = {}
        self._known: defaultdict[Target, set[tuple[str, Labels]]] = defaultdict(set)
        self._warned: set[tuple[Target, Drop]] = set()
        registry.register(self)
        self._dropped = Counter(
            "modelyard_model_metrics_dropped",
            "Measurements of models' own metrics that were dropped: invalid, of another kind than "
            "the name has (other_kind), or of too many series (too_many).",
            ("model", "version", "cause"),
            registry=registry,
        )

    def add(self, target: Target, runner: int, measured: Measured) -> None:
        """Add what a runner says."""
        for cause, count in measured.dropped.items():
            self._dropped.labels(target.name, target.version, cause).inc(count)
        for measure in measured.metrics:
            for series in measure.series:
                cause_ = self._problem_of(target, measure, series)
                if cause_ is None:
                    self._families[measure.name].add(target, runner, series)
                else:
                    self._drop(target, measure.name, cause_)

    def runner_ended(self, target: Target, runner: int) -> None:
        """Let the gauges of a runner go."""
        for family in self._families.values():
            for name, labels in family.forget(target, runner):
                self._known[target].discard((name, labels))

    def collect(self) -> Iterator[Metric]:
        """Return what is scraped."""
        for family in [*self._families.values()]:
            yield family.collect()

    def _problem_of(self, target: Target, measure: Measure, series: Series) -> Drop | None:
        """Return why a series cannot be taken; see to it that there is a family for it if it can.

        Only what is new is looked at closely.
        """
        family = self._families.get(measure.name)
        if family is not None and (family.kind, family.bounds) != (measure.kind, measure.bounds):
            return "other_kind"
        counted = len(measure.bounds) + 1 if measure.kind == "histogram" else 0
        if len(series.counts) != counted or (measure.kind == "counter" and series.value < 0):
            return "invalid"
        known = self._known[target]
        key = (measure.name, series.labels)
        if key in known and family is not None:
            return None
        if not (is_metric(measure.name, measure.bounds) and are_labels(series.labels)):
            return "invalid"
        if len(known) >= MOST_SERIES:
            return "too_many"
        known.add(key)
        if family is None:
            self._families[measure.name] = _Family(measure)
        return None

    def _drop(self, target: Target, name: str, cause: Drop) -> None:
        self._dropped.labels(target.name, target.version, cause).inc()
        if (target, cause) not in self._warned:
            self._warned.add((target, cause))
            fields = {"model": str(target), "metric": name, "cause": cause}
            log.warning("model_metric_dropped", extra=fields)


class _Family:
    """One metric of any models: they share its name, kind, text and buckets."""

    def __init__(self, measure: Measure) -> None:
        self.kind = measure.kind
        self.bounds = measure.bounds
        self._name = PREFIX + measure.name
        self._own_name = measure.name
        self._about = measure.about or "A metric of the model's own."
        self._sums: dict[_Key, Series] = {}
        self._gauges: dict[_Key, dict[int, float]] = {}

    def add(self, target: Target, runner: int, series: Series) -> None:
        """Add what a runner says."""
        key = (target, series.labels)
        if self.kind == "gauge":
            self._gauges.setdefault(key, {})[runner] = series.value
            return
        old = self._sums.get(key, Series(series.labels, 0.0, [0] * len(series.counts)))
        counts = [a + b for a, b in zip(old.counts, series.counts, strict=True)]
        self._sums[key] = Series(series.labels, old.value + series.value, counts)

    def forget(self, target: Target, runner: int) -> Iterator[tuple[str, Labels]]:
        """Let the gauges of a runner go; yield those that nobody sets any more."""
        for key, values in [*self._gauges.items()]:
            if key[0] == target and values.pop(runner, None) is not None and not values:
                del self._gauges[key]
                yield self._own_name, key[1]

    def collect(self) -> Metric:
        """Return what is scraped."""
        family = Metric(self._name, self._about, self.kind)
        for (target, given), values in [*self._gauges.items()]:
            family.add_sample(self._name, _labels(target, given), sum([*values.values()]))
        for (target, given), series in [*self._sums.items()]:
            labels = _labels(target, given)
            if self.kind == "counter":
                family.add_sample(f"{self._name}_total", labels, series.value)
                continue
            limits = [*map(str, self.bounds), "+Inf"]
            for limit, count in zip(limits, accumulate(series.counts), strict=True):
                family.add_sample(f"{self._name}_bucket", {**labels, "le": limit}, count)
            family.add_sample(f"{self._name}_count", labels, sum(series.counts))
            family.add_sample(f"{self._name}_sum", labels, series.value)
        return family


def _labels(target: Target, given: Labels) -> dict[str, str]:
    return {"model": target.name, "version": target.version, **dict(given)}
