"""What was measured, as ``measured.json`` keeps it. Times in seconds unless the name says else."""

from __future__ import annotations

from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("measured.json")


class Batch(msgspec.Struct, frozen=True):
    """Calls of ``predict`` with this many rows.

    ``predict_s``: 5th, 50th and 95th percentile of the time in ``predict``, by the clock.
    ``runner_cpu_s``: processor time of the whole runner process per call.
    """

    rows: int
    predict_s: list[float]
    runner_cpu_s: float


class ModelTimes(msgspec.Struct, frozen=True):
    """One model: its batches by size, and the time from the worker's command to its readiness."""

    batches: list[Batch]
    worker_start_s: float


class Level(msgspec.Struct, frozen=True):
    """The cluster under one level of load: processor time per request, in microseconds."""

    connections: int
    requests_per_s: float
    requests_per_bundle: float
    gateway_us: float
    broker_us: float
    worker_us: float
    runner_us: float


class Announcements(msgspec.Struct, frozen=True):
    """One announcement: what a gateway needs to hear it, what the broker needs to pass it on to one
    gateway, and to each further one.
    """

    bytes: int
    gateway_us: float
    broker_us: float
    further_us: float


class Trial(msgspec.Struct, frozen=True):
    """The product under open-loop arrivals, with the model that waits.

    The arrivals are those that ``seed`` gives, so a simulation can get the very same ones.
    ``predict_s``: the mean time in ``predict``; a busy machine makes it longer than the wait.
    """

    shape: str
    workers: int
    max_batch_size: int
    rate: float
    requests: int
    seed: int
    failures: int
    predict_s: float
    mean_s: float
    p50_s: float
    p99_s: float


class Measured(msgspec.Struct, frozen=True):
    """All of it. ``queue_share``: of the broker's work, in Erlang's reductions, the queue's own."""

    about: dict[str, str]
    models: dict[str, ModelTimes]
    levels: list[Level]
    queue_share: float
    announcements: Announcements
    trials: list[Trial]


def load(file: Path = FILE) -> Measured:
    """Read what was measured."""
    return msgspec.json.decode(file.read_bytes(), type=Measured)


def save(measured: Measured, file: Path = FILE) -> None:
    """Write what was measured."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
