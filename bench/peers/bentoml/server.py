"""BentoML: a service with an endpoint per model."""

from __future__ import annotations

from typing import Any

import bentoml
import numpy as np

from bench.peers.subjects import SCORES, load_subject
from bench.peers.told import read_told

TOLD = read_told()
BATCHING: dict[str, Any] = (
    {"batchable": True, "max_batch_size": TOLD.batch_size, "max_latency_ms": 1000 * TOLD.timeout_s}
    if TOLD.batch_size > 1
    else {}
)
Rows = list[list[float]]


@bentoml.service(
    workers=TOLD.runners,
    traffic={"timeout": TOLD.timeout_s, **({"max_concurrency": TOLD.queue} if TOLD.queue else {})},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Service:
    """Loads what is asked for; the endpoints of the rest are never called."""

    def __init__(self) -> None:
        self.subjects = {model: load_subject(model) for model in TOLD.models}

    @bentoml.api(**BATCHING)
    def iris(self, instances: Rows) -> list[int]:
        return self.subjects["iris"](instances)

    @bentoml.api(**BATCHING)
    def slow_batch(self, instances: Rows) -> Rows:
        return self.subjects["slow_batch"](instances)

    @bentoml.api(**BATCHING)
    def slow_each(self, instances: Rows) -> Rows:
        return self.subjects["slow_each"](instances)

    @bentoml.api(**BATCHING)
    def brief_each(self, instances: Rows) -> Rows:
        return self.subjects["brief_each"](instances)

    @bentoml.api(**BATCHING)
    def image(self, instances: np.ndarray) -> np.ndarray:
        return np.stack(self.subjects["image"](instances)).reshape(-1, SCORES)
