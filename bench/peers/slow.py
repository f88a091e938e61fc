"""Slow models: 20 ms for a batch whatever it holds, and 20 ms for each instance."""

from __future__ import annotations

import time

from bench.peers.rounds import Bench, load, timed
from bench.peers.samples import instance_of
from bench.peers.subjects import PAUSE_S
from bench.peers.told import Told

CONNECTIONS = 64
BATCH = 32  # half of the connections, so that the next batch waits while one runs
# What a model can answer that is never kept waiting, per second.
IDEAL = {
    "slow_batch": BATCH / PAUSE_S["slow_batch"],
    "slow_each": 1 / PAUSE_S["slow_each"],
}
REST_S = 3  # until what the warm-up has left in queues is worked off: its clients are gone
CASES = {"slow_batch": "20 ms per batch", "slow_each": "20 ms per instance"}


def measure_slow(bench: Bench) -> None:
    """Measure both in turn."""
    for system in bench.turns("slow"):
        for model, case in CASES.items():
            # Where each instance takes its time, a batch only delays the first of it.
            batch_size = BATCH if model == "slow_batch" else 1
            told = Told(models=(model,), batch_size=batch_size)
            call = system.call(model, instance_of(model))
            with bench.noting("slow", system), system.start(told, bench.logs) as running:
                load(running, call, connections=CONNECTIONS, seconds=bench.plan.warm_up_s)
                time.sleep(REST_S)
                seconds = bench.plan.seconds
                seen = timed(running, call, connections=CONNECTIONS, seconds=seconds)
                seen["ideal"] = seen["rate"] / IDEAL[model]
                bench.book.add("slow", case, system.title, **seen)
