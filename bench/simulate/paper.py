"""Many models and many requests, on paper: what it takes, what gives way first, what it costs.

Everything follows from the processor time of one request, one bundle and one announcement, and
from who talks to whom. The models' own work is not in it: it is the same whoever serves them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bench.simulate import parameters as p
from bench.simulate.data import Measured
from bench.simulate.service import Cost, fit

LARGEST_BUNDLE = 64
FEWEST_WORKERS = 2  # of each model, so that one may end
CONNECTIONS = 3  # of a gateway or worker: to publish, to consume, and for the catalog
MOST_BROKER_NODES = 3  # of one cell: a quorum queue has a copy on each


class Costs(NamedTuple):
    """What was measured."""

    gateway: Cost
    broker: Cost
    worker: Cost
    runner: Cost
    heard_us: float
    passed_us: float
    further_us: float
    round_trip_s: float
    queue_share: float


class Need(NamedTuple):
    """What a load takes. Cores are what is used, divided by the share planned for."""

    models: int
    rate: float
    cells: int
    bundle: float
    gateways: float
    workers: float
    brokers: float
    gateway_cores: float
    worker_cores: float
    broker_cores: float
    announcements: float
    loads: dict[str, float]

    @property
    def cores(self) -> float:
        """All of them."""
        return self.gateway_cores + self.worker_cores + self.broker_cores

    @property
    def usd_per_million(self) -> float:
        """What a million requests cost."""
        return self.cores * p.CORE_HOUR_USD.value / 3600 / self.rate * 1e6

    @property
    def first(self) -> str:
        """What is nearest to its limit, or furthest beyond it."""
        return max(self.loads, key=lambda name: self.loads[name])

    @property
    def is_reachable(self) -> bool:
        """Whether nothing is over its limit."""
        return self.loads[self.first] <= 1


def costs_of(measured: Measured) -> Costs:
    """Take the costs from what was measured."""
    parts = {part: fit(measured.levels, part) for part in ("gateway", "broker", "worker", "runner")}
    once_us = sum(cost.of(1) for cost in parts.values())
    heard = measured.announcements
    return Costs(
        **parts,
        heard_us=heard.gateway_us,
        passed_us=heard.broker_us,
        further_us=heard.further_us,
        round_trip_s=once_us / 1e6,
        queue_share=measured.queue_share,
    )


def need(costs: Costs, *, models: int, rate: float, cells: int = 1) -> Need:
    """Give what ``models`` with ``rate`` requests per second together take, in equal ``cells``.

    A cell has a broker, gateways and models of its own; a router in front knows which model is
    where. The number of gateways is found by trying: more of them make thinner bundles.
    """
    gateways = 1.0
    for _ in range(100):
        found = _need(costs, models=models, rate=rate, cells=cells, gateways=gateways)
        if math.isinf(found.gateway_cores) or found.gateways <= gateways:
            break
        gateways = found.gateways
    return found


def _need(costs: Costs, *, models: int, rate: float, cells: int, gateways: float) -> Need:
    """``gateways`` of one cell are what there is; the answer says how many there should be."""
    models_here, rate_here = models / cells, rate / cells
    share = p.HEADROOM.value
    lane = rate_here / models_here / gateways
    busy_s = costs.round_trip_s / (1 - share)  # as in M/M/1: a busy way takes longer
    patience_s = min(busy_s / 2, p.BUNDLE_FILL_S.value)  # two bundles take turns
    bundle = min(max(1.0, lane * patience_s), LARGEST_BUNDLE)

    def cores(cost: Cost) -> float:
        return rate_here * cost.of(bundle) / bundle / 1e6

    behind = Cost(
        costs.worker.request_us + costs.runner.request_us,
        costs.worker.bundle_us + costs.runner.bundle_us,
    )
    workers_each = max(FEWEST_WORKERS, math.ceil(cores(behind) / models_here / share))
    workers = workers_each * models_here
    said = workers / p.ANNOUNCE_S.value
    deaf = said * costs.heard_us / 1e6  # of each gateway's core
    wanted = math.ceil(cores(costs.gateway) / (share - deaf)) if deaf < share else math.inf
    passed = said * (costs.passed_us + (gateways - 1) * costs.further_us) / 1e6
    broker_cores = (cores(costs.broker) + passed) / share
    connections = CONNECTIONS * (workers + gateways)
    full = max(broker_cores / p.BROKER_CORES.value, connections / p.NODE_CONNECTIONS.value)
    return Need(
        models=models,
        rate=rate,
        cells=cells,
        bundle=bundle,
        gateways=wanted,
        workers=workers,
        brokers=max(1, math.ceil(full)),
        gateway_cores=cells * wanted,
        worker_cores=cells * max(cores(behind) / share, workers * p.WORKER_CPU.value),
        broker_cores=cells * broker_cores,
        announcements=said * gateways * cells,
        loads={
            "announcements at each gateway": deaf / share,
            "the broker's nodes": full / MOST_BROKER_NODES,
            "a queue's core": costs.queue_share * cores(costs.broker) / models_here / share,
        },
    )


def cells_for(costs: Costs, *, models: int, rate: float) -> int:
    """Give the fewest equal cells in which nothing is over its limit.

    One for each model if even then something is: what `need` gives for them is not reachable.
    """
    for cells in range(1, models + 1):
        is_equal = models % cells == 0
        if is_equal and need(costs, models=models, rate=rate, cells=cells).is_reachable:
            return cells
    return models
