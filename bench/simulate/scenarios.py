"""Which models, under which loads, scaled by which signal, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.processes import ROOT
from bench.simulate import parameters as p
from bench.simulate.arrivals import Shape, Times, shaped
from bench.simulate.autoscaler import Autoscaler, Count, CpuSignal, QueueSignal, Signal
from bench.simulate.data import Measured
from bench.simulate.demand import DemandSignal, target_wait_s
from bench.simulate.farm import Farm, Rules
from bench.simulate.gateway import EXPIRED, REFUSED
from bench.simulate.service import Busy, Service, fit, measured_service, way_s
from modelyard.core.manifest import Manifest
from modelyard.folder import read_manifest
from modelyard.pool.runners import SLOW_S

SEED = 20
SEEDS = 10
WAITING = "waiting_model"
SHAPES = (
    Shape("step", [(0, 0.2), (300, 0.2), (300, 1), (1200, 1)], 120),
    Shape("ramp", [(0, 0.1), (300, 0.1), (900, 1), (1200, 1)], 120),
    Shape("spike", [(0, 0.2), (300, 0.2), (300, 1), (360, 1), (360, 0.2), (1200, 0.2)], 120),
    Shape(
        "day",
        [(3600 * hour / 24, 0.55 - 0.45 * float(np.cos(hour / 12 * np.pi))) for hour in range(25)],
        120,
    ),
)
SIGNALS = ("CPU", "queue", "demand")
READY_ONLY = "ready only"


class Subject(NamedTuple):
    """A model.

    Args:
        pods_at_peak: What the greatest load keeps busy, one request at a time.
        seeds: How many times each load is tried. What a jump costs depends on how many pods there
            happened to be, so one try says little; with a thousand requests a second it is always
            the same.
    """

    name: str
    folder: str
    rows: int
    pods_at_peak: float
    seeds: int = SEEDS


TEN = int(p.ROWS.value)
SUBJECTS = (
    Subject("fast_iris_model", "models/fast_iris_model", TEN, 1.2, seeds=1),
    Subject("intermediate_iris_model", "models/intermediate_iris_model", TEN, 8),
    Subject("slow_iris_model", "models/slow_iris_model", TEN, 8, seeds=20),
    Subject(WAITING, "bench/simulate/waiting_model", 1, 8),
)


class Outcome(NamedTuple):
    """What all tries of a load gave together. Latencies in seconds, of the requests that were
    answered. ``arrivals``, ``latency`` and ``counts`` are those of the first.
    """

    subject: str
    shape: str
    signal: str
    pods_at_peak: float
    greatest_rate: float
    requests: int
    p50_s: float
    p99_s: float
    refused: int
    expired: int
    pods_mean: float
    pods_most: int
    arrivals: Times
    latency: Times
    counts: list[Count]


class Try(NamedTuple):
    """One run, from its beginning."""

    arrivals: Times
    latency: Times
    counts: list[Count]


def manifest_of(subject: Subject) -> Manifest:
    """Read what the model's ``model.toml`` says."""
    return read_manifest(ROOT / subject.folder)


def service_of(measured: Measured, subject: Subject) -> Service:
    """Give what a worker needs for a batch."""
    if subject.name == WAITING:
        worker = fit(measured.levels, "worker")
        return lambda n: Busy(0.05 + worker.of(n) / 1e6, worker.of(n) / 1e6)
    size = manifest_of(subject).batching.max_batch_size
    return measured_service(measured, subject.name, rows=subject.rows, max_batch_size=size)


def rules_of(measured: Measured, subject: Subject) -> Rules:
    """Give the product's rules, with what ``model.toml`` sets."""
    manifest = manifest_of(subject)
    is_slow = service_of(measured, subject)(1).seconds >= SLOW_S
    runners = manifest.scaling.max_runners
    is_batched = manifest.batching.max_batch_size > 1
    return Rules(
        rows=subject.rows,
        max_batch_size=manifest.batching.max_batch_size,
        timeout_s=manifest.limits.timeout_s,
        max_in_flight=manifest.limits.max_in_flight,
        prefetch=2 * (runners + 1) if is_batched else runners + (not is_slow),
        fill_s=p.BUNDLE_FILL_S.value,
        spare_s=p.BUNDLE_SPARE_S.value,
        way_s=way_s(measured),
    )


def pod_start_s(measured: Measured, subject: Subject) -> float:
    """Give the time from the decision to a pod that consumes."""
    slowest = max(times.worker_start_s for times in measured.models.values())
    times = measured.models.get(subject.name)
    return p.POD_S.value + (times.worker_start_s if times else slowest)


def signal_of(name: str, manifest: Manifest) -> Callable[[Farm], Signal]:
    """Give what makes the signal of this name."""
    if name == "CPU":
        cpu = manifest.resources.cpu
        cores = float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
        return partial(CpuSignal, request_cores=p.WORKER_CPU.value + cores)
    if name == "demand":
        return partial(DemandSignal, target_wait_s=target_wait_s(manifest.limits.timeout_s))
    return partial(QueueSignal, is_ready_only=name == READY_ONLY)


def run(measured: Measured, subject: Subject, shape: Shape, signal: str) -> Outcome:
    """Simulate one load on one model with one signal, once for each seed."""
    greatest = subject.pods_at_peak / service_of(measured, subject)(1).seconds
    first: Try | None = None
    latencies: list[Times] = []
    pods: list[int] = []
    for seed in range(SEED, SEED + subject.seeds):
        arrivals = shaped(shape, greatest=greatest, seed=seed)
        tried = _try(measured, subject, shape, signal, arrivals)
        latencies.append(tried.latency[arrivals >= shape.warm_up_s])
        pods += [c.pods for c in tried.counts if shape.warm_up_s <= c.at_s < shape.length_s]
        first = first or tried
    assert first is not None
    latency = np.concatenate(latencies)
    answered = latency[latency >= 0]
    return Outcome(
        subject=subject.name,
        shape=shape.name,
        signal=signal,
        pods_at_peak=subject.pods_at_peak,
        greatest_rate=greatest,
        requests=len(latency),
        p50_s=float(np.quantile(answered, 0.5)),
        p99_s=float(np.quantile(answered, 0.99)),
        refused=int((latency == REFUSED).sum()),
        expired=int((latency == EXPIRED).sum()),
        pods_mean=float(np.mean(pods)),
        pods_most=max(pods),
        **first._asdict(),
    )


def _try(measured: Measured, subject: Subject, shape: Shape, signal: str, arrivals: Times) -> Try:
    first_share = float(shape.points[0][1])
    workers = int(
        max(p.MIN_PODS.value, round(subject.pods_at_peak * first_share / p.CPU_TARGET.value))
    )
    farm = Farm(
        arrivals,
        service_of(measured, subject),
        rules_of(measured, subject),
        workers=workers,
        gateways=int(p.GATEWAYS.value),
    )
    scaler = Autoscaler(
        farm,
        signal_of(signal, manifest_of(subject)),
        pod_start_s=pod_start_s(measured, subject),
    )
    latency = farm.run(shape.length_s + farm.rules.timeout_s)
    return Try(arrivals, latency, scaler.counts)
