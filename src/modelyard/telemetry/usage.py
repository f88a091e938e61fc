"""Metrics of what callers have used."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from modelyard.access.limits import Used

_CALLER = ("owner", "key", "model")
MOST_CALLERS = 500  # of owner, key and model together; an identity provider may name any number
_OTHER = "other"


class UsageMetrics:
    """Counts usage by owner, key and model. Those beyond ``MOST_CALLERS`` are counted together.

    Args:
        registry: Where the counters are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._known: set[tuple[str, str, str]] = set()
        self._counters = {
            name: Counter(f"modelyard_used_{name}", text, _CALLER, registry=registry)
            for name, text in (
                ("requests", "Requests that were answered, by who asked."),
                ("instances", "Instances in them."),
                ("model_seconds", "Seconds of the model's time that they took."),
            )
        }

    def used(self, one: Used) -> None:
        """Count what one caller has used of one model."""
        caller = (one.owner, one.key, one.model)
        if caller not in self._known:
            if len(self._known) < MOST_CALLERS:
                self._known.add(caller)
            else:
                caller = (_OTHER, _OTHER, one.model)
        sums = (one.requests, one.instances, one.model_s)
        for counter, value in zip(self._counters.values(), sums, strict=True):
            counter.labels(*caller).inc(value)
