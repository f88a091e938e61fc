"""The simulation held against closed forms, and against the product under the same arrivals."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from bench.simulate import parameters as p
from bench.simulate import theory
from bench.simulate.arrivals import constant
from bench.simulate.data import Trial
from bench.simulate.farm import Farm, Rules
from bench.simulate.service import Busy

SEED = 11
REQUESTS = 60_000
BATCHES = 30
UNLIMITED = 1 << 30


class Wait(NamedTuple):
    """A mean of many waits, and its standard error by the means of batches of them."""

    mean_s: float
    error_s: float


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

    def simulated(self) -> Wait:
        """Give the wait in a simulation."""
        return _simulate(self)


CHECKS = (
    Check("M/M/1", 1, 0.5, 1),
    Check("M/M/1", 1, 0.7, 1),
    Check("M/M/4", 4, 0.8, 1),
    Check("M/M/16", 16, 0.8, 1),
    Check("M/D/1", 1, 0.5, 0),
    Check("M/D/1", 1, 0.8, 0),
)


@cache
def _simulate(check: Check) -> Wait:
    rate = check.utilisation * check.servers
    arrivals = constant(rate, length_s=REQUESTS / rate, seed=SEED)
    count = len(arrivals)
    generator = np.random.default_rng(SEED + 1)
    services = generator.exponential(size=count) if check.variation else np.ones(count)
    one_by_one = iter(services.tolist())
    farm = Farm(arrivals, lambda _: Busy(next(one_by_one), 0), Rules(), workers=check.servers)
    # First come, first served: the services were given out in the order of the arrivals.
    waits = farm.run(float(arrivals[-1]) + 1000) - services
    means = [part.mean() for part in np.array_split(waits, BATCHES)]
    return Wait(float(waits.mean()), float(np.std(means, ddof=1) / BATCHES**0.5))


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
        rules = Rules(
            max_batch_size=size,
            prefetch=2,
            fill_s=p.BUNDLE_FILL_S.value,
            spare_s=p.BUNDLE_SPARE_S.value,
        )
    farm = Farm(arrivals, lambda _: Busy(trial.predict_s, 0), rules, workers=trial.workers)
    latency = farm.run(float(arrivals[-1]) + 1000)
    return Agreement(
        trial=trial,
        mean_s=float(latency.mean()),
        p50_s=float(np.quantile(latency, 0.5)),
        p99_s=float(np.quantile(latency, 0.99)),
    )
