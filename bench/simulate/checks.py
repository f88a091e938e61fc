"""The simulation held against closed forms, and against the product under the same arrivals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.simulate import parameters as p
from bench.simulate import theory
from bench.simulate.arrivals import constant
from bench.simulate.data import Trial
from bench.simulate.farm import Farm, Rules
from bench.simulate.service import Busy, Service

SEED = 7
UNLIMITED = 1 << 30


class Check(NamedTuple):
    """A queue of Poisson arrivals, service times of 1 s on average, and no limits.

    ``variation``: squared coefficient of variation of the service times.
    """

    name: str
    servers: int
    utilisation: float
    variation: float

    def theory_s(self) -> float:
        """Give the mean wait that the closed form says."""
        rate = self.utilisation * self.servers
        if self.servers == 1:
            return theory.mg1_wait(rate, 1, self.variation)
        return theory.mgc_wait(rate, 1, self.servers, self.variation)

    def simulated_s(self, requests: int = 40_000) -> float:
        """Give the mean wait of a simulation."""
        rate = self.utilisation * self.servers
        arrivals = constant(rate, length_s=requests / rate, seed=SEED)
        service = _exponential(SEED + 1) if self.variation else _always
        farm = Farm(arrivals, service, Rules(), workers=self.servers)
        return float(farm.run(float(arrivals[-1]) + 1000).mean()) - 1


CHECKS = (
    Check("M/M/1", 1, 0.5, 1),
    Check("M/M/1", 1, 0.8, 1),
    Check("M/M/4", 4, 0.8, 1),
    Check("M/M/16", 16, 0.9, 1),
    Check("M/D/1", 1, 0.5, 0),
    Check("M/D/1", 1, 0.8, 0),
)


def _exponential(seed: int) -> Service:
    generator = np.random.default_rng(seed)
    return lambda _: Busy(generator.exponential(), 0)


def _always(_: int) -> Busy:
    return Busy(1, 0)


class Agreement(NamedTuple):
    """A trial of the product, and the simulation of its very arrivals."""

    trial: Trial
    mean_s: float
    p50_s: float
    p99_s: float


def simulate_trial(trial: Trial) -> Agreement:
    """Give the simulation the arrivals of a trial; a batch takes what it took
    on average, and nothing else takes time."""
    arrivals = constant(trial.rate, length_s=trial.requests / trial.rate, seed=trial.seed)
    size = trial.max_batch_size
    if trial.shape == "serve":
        rules = Rules(max_batch_size=size, prefetch=UNLIMITED)
    else:
        window, fill_s = int(p.BUNDLE_WINDOW.value), p.BUNDLE_FILL_S.value
        rules = Rules(max_batch_size=size, prefetch=2, window=window, fill_s=fill_s)
    farm = Farm(arrivals, lambda _: Busy(trial.predict_s, 0), rules, workers=trial.workers)
    latency = farm.run(float(arrivals[-1]) + 1000)
    return Agreement(
        trial=trial,
        mean_s=float(latency.mean()),
        p50_s=float(np.quantile(latency, 0.5)),
        p99_s=float(np.quantile(latency, 0.99)),
    )
