"""How long a worker is busy with a batch, and what that costs, from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from bench.simulate.data import Level, Measured


class Busy(NamedTuple):
    """A batch keeps a worker busy this long and uses so much processor time."""

    seconds: float
    cpu_s: float


Service = Callable[[int], Busy]
"""By the number of requests in the batch."""


class Cost(NamedTuple):
    """What something costs in microseconds of processor: for each request, and for each bundle."""

    request_us: float
    bundle_us: float

    def of(self, requests: float) -> float:
        """Give the cost of a bundle of so many requests."""
        return self.bundle_us + self.request_us * requests


def fit(levels: Sequence[Level], part: str) -> Cost:
    """Split what ``part`` of the cluster costs, by least squares over the levels of load.

    cost per request = request_us + bundle_us / requests per bundle
    """
    shares = np.array([1 / level.requests_per_bundle for level in levels])
    costs = np.array([getattr(level, f"{part}_us") for level in levels])
    bundle_us, request_us = np.polyfit(shares, costs, 1)
    return Cost(round(max(float(request_us), 0.0), 1), round(float(bundle_us), 1))


def measured_service(measured: Measured, model: str, *, rows: int, max_batch_size: int) -> Service:
    """Give what a worker of the cluster needs for a batch of requests of ``rows`` each.

    The processor time of the runner stands for the time that it takes: with a core to itself it
    needs no more, and other work on the measuring machine does not change it. A batch of more than
    ``max_batch_size`` rows runs in calls of that many. The worker's own work and the runner's are
    taken one after the other, though they are two processes: a little too much for the fastest
    models, nothing for the others.
    """
    worker = fit(measured.levels, "worker")
    batches = measured.models[model].batches
    sizes = [batch.rows for batch in batches]
    times = [batch.runner_cpu_s for batch in batches]

    @cache
    def service(requests: int) -> Busy:
        whole, rest = divmod(requests * rows, max_batch_size)
        parts = [max_batch_size] * whole + [rest] * bool(rest)
        seconds = float(np.interp(parts, sizes, times).sum()) + worker.of(requests) / 1e6
        return Busy(seconds, seconds)

    return service


def way_s(measured: Measured) -> float:
    """Give the time from gateway to worker and back: the work of gateway and broker on the way."""
    alone = min(measured.levels, key=lambda level: level.connections)
    return (alone.gateway_us + alone.broker_us) / 1e6
