"""Metrics of jobs and of the callbacks that tell of them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

ENDS = ("succeeded", "failed", "again")
CALLBACK_ENDS = ("delivered", "failed", "again")
_OPEN = {"queued": "again", "pending": "again"}


class JobMetrics:
    """Counts what one gateway has accepted, run and told; see ``jobs/interfaces.py``.

    Args:
        registry: Where the counters are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._accepted = Counter(
            "modelyard_jobs_accepted", "Jobs that were accepted.", ("model",), registry=registry
        )
        self._ended = Counter(
            "modelyard_job_attempts",
            "Attempts at jobs, by what became of them: succeeded, failed, or again.",
            ("model", "end"),
            registry=registry,
        )
        self._accepted_of: dict[str, Counter] = {}
        self._told = Counter(
            "modelyard_callbacks",
            "Attempts at callbacks, by what became of them: delivered, failed, or again.",
            ("end",),
            registry=registry,
        )
        for end in CALLBACK_ENDS:
            self._told.labels(end)
        self._running = Gauge(
            "modelyard_jobs_running", "Jobs that this gateway runs.", registry=registry
        )

    def accepted(self, model: str) -> None:
        """A job was accepted."""
        if (counter := self._accepted_of.get(model)) is None:
            for end in ENDS:  # a counter that appears at 1 has no rate
                self._ended.labels(model, end)
            counter = self._accepted_of[model] = self._accepted.labels(model)
        counter.inc()

    def ended(self, model: str, state: str) -> None:
        """An attempt at a job came to its end."""
        self._ended.labels(model, _OPEN.get(state, state)).inc()

    def told(self, state: str) -> None:
        """An attempt at a callback came to its end."""
        self._told.labels(_OPEN.get(state, state)).inc()

    def watch_running(self, count: Callable[[], int]) -> None:
        """Ask how many jobs run, whenever that is looked at."""
        self._running.set_function(count)
