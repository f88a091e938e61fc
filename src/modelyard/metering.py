"""``Model.metrics``: what a model measures of its own.

Nothing here raises or waits: what Prometheus does not allow, and what is too much
(``core/measured.py``), is dropped, counted and logged once. What is measured is kept until
``Metrics.take`` takes it, which the runner does to tell the pool (``runner/metering.py``).
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from math import isfinite, nan
from threading import RLock
from typing import ClassVar, SupportsFloat, TypeVar

from modelyard.core.measured import (
    LONGEST_ABOUT,
    MOST_SERIES,
    Drop,
    Kind,
    Labels,
    Measure,
    Series,
    is_metric,
    labels_of,
)
from modelyard.core.messages import Measured

log = logging.getLogger("modelyard.metrics")

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of a histogram that names none: for seconds, and for shares of one."""

_WHY: dict[Drop, str] = {
    "invalid": "Prometheus does not allow its name, a label, a bucket or the value",
    "other_kind": "the name is taken by a metric of another kind, or with other buckets",
    "too_many": f"the model has {MOST_SERIES} series already; labels are for few values",
}


class _Metric:
    """One metric, with any labels.

    Attributes:
        problem: Why all that it measures is dropped.
        news: What has been measured since it was taken.
    """

    kind: ClassVar[Kind]

    def __init__(self, owner: Metrics, name: str, about: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.about = str(about)[:LONGEST_ABOUT]
        self.bounds = bounds
        self.problem: Drop | None = None
        self.news: dict[Labels, Series] = {}
        self._owner = owner

    def _note(self, value: SupportsFloat, given: dict[str, object], *, lowest: float) -> None:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = nan
        is_number = isfinite(number) and number >= lowest
        labels = (labels_of(given) if given else ()) if is_number else None
        self._owner.note(self, labels, number)

    def add(self, series: Series, value: float) -> None:
        """Add a measurement to a series."""
        series.value += value


M = TypeVar("M", bound=_Metric)


class Counter(_Metric):
    """What only grows."""

    kind = "counter"

    def inc(self, amount: SupportsFloat = 1, /, **labels: object) -> None:
        """Add to it; ``amount`` is not negative."""
        self._note(amount, labels, lowest=0.0)


class Gauge(_Metric):
    """What goes up and down. Those of all runners are added up."""

    kind = "gauge"

    def set(self, value: SupportsFloat, /, **labels: object) -> None:
        """Set it."""
        self._note(value, labels, lowest=-float("inf"))

    def add(self, series: Series, value: float) -> None:
        """See ``_Metric``."""
        series.value = value


class Histogram(_Metric):
    """How values are spread."""

    kind = "histogram"

    def observe(self, value: SupportsFloat, /, **labels: object) -> None:
        """Note a value."""
        self._note(value, labels, lowest=-float("inf"))

    def add(self, series: Series, value: float) -> None:
        """See ``_Metric``."""
        series.value += value
        series.counts = series.counts or [0] * (len(self.bounds) + 1)
        series.counts[bisect_left(self.bounds, value)] += 1


class Metrics:
    """The metrics of one model. Any thread may use it, at any time.

    Attributes:
        is_used: Whether the model has metrics at all.
        has_news: Whether something has been measured since ``take``.
        on_news: Called after each measurement; has to be quick.
    """

    def __init__(self) -> None:
        self.is_used = self.has_news = False
        self.on_news: Callable[[], None] | None = None
        self._lock = RLock()  # a signal handler may measure amid a measurement
        self._metrics: dict[str, _Metric] = {}
        self._known: set[tuple[str, Labels]] = set()
        self._dropped: dict[Drop, int] = {}
        self._logged: set[Drop] = set()

    def counter(self, name: str, about: str = "") -> Counter:
        """Return the counter of this name; ``about`` says in a sentence what it counts."""
        return self._metric(Counter, str(name).removesuffix("_total"), about)

    def gauge(self, name: str, about: str = "") -> Gauge:
        """Return the gauge of this name; ``about`` says in a sentence what it shows."""
        return self._metric(Gauge, name, about)

    def histogram(
        self, name: str, about: str = "", *, buckets: Iterable[SupportsFloat] = BUCKETS
    ) -> Histogram:
        """Return the histogram of this name. ``buckets``: their upper limits, ascending, at most
        32; one without a limit is added.
        """
        try:
            bounds = tuple(map(float, buckets))
        except (TypeError, ValueError, OverflowError):
            bounds = (nan,)
        return self._metric(Histogram, name, about, bounds)

    def value(self, name: str, **labels: object) -> float:
        """Return what was counted, what a gauge was set to, or how often a histogram was observed,
        where nobody takes it: in tests. 0 for what has not been measured.
        """
        metric = self._metrics.get(name) or self._metrics.get(name.removesuffix("_total"))
        found = labels_of(labels)
        series = None if metric is None or found is None else metric.news.get(found)
        if series is None:
            return 0.0
        return float(sum(series.counts)) if series.counts else series.value

    def take(self) -> Measured:
        """Return what has been measured and dropped since the last call."""
        with self._lock:
            self.has_news = False
            dropped, self._dropped = self._dropped, {}
            taken = []
            for metric in [*self._metrics.values()]:
                if metric.news:
                    news, metric.news = [*metric.news.values()], {}
                    told = (metric.kind, metric.name, metric.about, metric.bounds)
                    taken.append(Measure(*told, news))
            return Measured(taken, dropped)

    def forked(self) -> None:
        """Tell nobody any more: this is a process that the model has forked."""
        self.on_news = None
        self._lock = RLock()  # maybe another thread had it

    def note(self, metric: _Metric, labels: Labels | None, value: float) -> None:
        """Note a measurement; ``labels`` is None if it is not valid."""
        with self._lock:
            problem = metric.problem or self._problem_of(metric.name, labels)
            if problem is None and labels is not None:
                series = metric.news.get(labels) or Series(labels)
                metric.add(series, value)
                metric.news[labels] = series
            elif problem is not None:
                self._drop(problem, metric.name)
            self.has_news = True
        if (tell := self.on_news) is not None:
            tell()

    def _metric(self, kind: type[M], name: str, about: str, bounds: tuple[float, ...] = ()) -> M:
        self.is_used = True
        known = self._metrics.get(name := str(name))
        if isinstance(known, kind) and known.bounds == bounds:
            return known
        metric = kind(self, name, about, bounds)
        if known is not None:
            metric.problem = "other_kind"
        elif not is_metric(name, bounds):
            metric.problem = "invalid"
        elif len(self._metrics) >= MOST_SERIES:
            metric.problem = "too_many"
        else:
            with self._lock:
                if self._metrics.setdefault(name, metric) is not metric:
                    return self._metric(kind, name, about, bounds)  # another thread was quicker
        return metric

    def _problem_of(self, name: str, labels: Labels | None) -> Drop | None:
        if labels is None:
            return "invalid"
        if (name, labels) not in self._known:
            if len(self._known) >= MOST_SERIES:
                return "too_many"
            self._known.add((name, labels))
        return None

    def _drop(self, why: Drop, name: str) -> None:
        """Count what is dropped, and log the first of its kind."""
        self._dropped[why] = self._dropped.get(why, 0) + 1
        if why not in self._logged:
            self._logged.add(why)
            log.warning("a metric of the model is dropped: %.100s: %s", name, _WHY[why])
