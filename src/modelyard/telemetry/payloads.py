"""Metrics of the payload log: what has become of the requests that were chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from modelyard.core.names import Target

_FEATURE = ("model", "version", "feature")

ENDS = ("kept", "full", "lost", "failed")


class Feature(Protocol):
    """How a feature of a window compares; see ``drift/comparing.py``."""

    @property
    def name(self) -> str: ...
    @property
    def psi(self) -> float: ...
    @property
    def ks(self) -> float: ...
    @property
    def missing(self) -> float: ...
    @property
    def outside(self) -> float: ...
    @property
    def new(self) -> float: ...
    @property
    def has_drifted(self) -> bool: ...


class Compared(Protocol):
    """How a window compares with its reference."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def features(self) -> Sequence[Feature]: ...


class PayloadMetrics:
    """Counts what one gateway's payload log has kept and dropped; see ``payloads/process.py``.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._records = Counter(
            "modelyard_payload_records",
            "Requests chosen for the payload log, by what became of them: kept; or dropped where "
            "there was no room (full), with a writer that died (lost), or by an error (failed).",
            ("end",),
            registry=registry,
        )
        for end in ENDS:  # a counter that appears at 1 has no rate
            self._records.labels(end)
        self._failing = Gauge(
            "modelyard_payload_log_failing",
            "1 while the payload log can keep nothing where it should, else 0.",
            registry=registry,
        )

        self._windows = Counter(
            "modelyard_drift_windows",
            "Windows of requests that were compared with a reference.",
            ("model", "version"),
            registry=registry,
        )
        self._drifted = Gauge(
            "modelyard_drift_detected",
            "1 if the feature was distributed otherwise than in the reference in the last window.",
            _FEATURE,
            registry=registry,
        )
        self._figures = Gauge(
            "modelyard_drift",
            "The last window beside the reference: psi, ks, or a share: of rows without the "
            "feature (missing), of values beyond its range (outside), of new categories (new).",
            (*_FEATURE, "figure"),
            registry=registry,
        )
        self._last: dict[tuple[str, str], Compared] = {}
        self._is_failing = False

    def window_of(self, target: Target) -> Compared | None:
        """Return the last window of a target; None if it has no reference, or none has ended."""
        return self._last.get((target.name, target.version))

    def compared(self, window: Compared) -> None:
        """Show how a window compares. Features are those of the reference, so no client makes up
        their names.
        """
        target = (window.model, window.version)
        self._last[target] = window
        self._windows.labels(*target).inc()
        for feature in window.features:
            labels = (*target, feature.name)
            self._drifted.labels(*labels).set(feature.has_drifted)
            for figure in ("psi", "ks", "missing", "outside", "new"):
                self._figures.labels(*labels, figure).set(getattr(feature, figure))

    def ended(self, end: str, count: int) -> None:
        """So many more requests were kept, or were not."""
        self._records.labels(end).inc(count)

    def records(self) -> dict[str, float]:
        """Return how many requests came to each of ``ENDS``."""
        (family,) = self._records.collect()
        return {s.labels["end"]: s.value for s in family.samples if s.name.endswith("_total")}

    @property
    def is_failing(self) -> bool:
        """Whether nothing can be kept at the moment."""
        return self._is_failing

    def set_failing(self, is_failing: bool) -> None:
        """Note whether nothing can be kept at the moment."""
        self._is_failing = is_failing
        self._failing.set(is_failing)
