"""Slow models: 20 ms for a batch whatever it holds, and 20 ms for each instance."""

from __future__ import annotations

import time
from functools import cache

from bench.peers.rounds import Bench, load, timed
from bench.peers.samples import instance_of
from bench.peers.subjects import load_subject
from bench.peers.told import Told

CONNECTIONS = 64
BATCH = 32  # half of the connections, so that the next batch waits while one runs
SECONDS = 10  # the first batch holds one request: 1 % of what is answered in 3 s
REST_S = 3  # until what the warm-up has left in queues is worked off: its clients are gone
CASES = {"slow_batch": "20 ms per batch", "slow_each": "20 ms per instance"}
ALONE_CALLS = 100


@cache
def ideal_of(model: str, batch_size: int) -> float:
    """Give how many answers per second the model gives when it never waits: called in a loop.

    To be asked while no system runs beside it. Measured, for a sleep of 20 ms takes longer: 20.14
    on two cores of an Intel Xeon.
    """
    predict, batch = load_subject(model), [instance_of(model)] * batch_size
    began = time.perf_counter()
    for _ in range(ALONE_CALLS):
        predict(batch)
    return ALONE_CALLS * batch_size / (time.perf_counter() - began)


def measure_slow(bench: Bench) -> None:
    """Measure both in turn."""
    for system in bench.turns("slow"):
        for model, case in CASES.items():
            # Where each instance takes its time, a batch only delays the first of it.
            batch_size = BATCH if model == "slow_batch" else 1
            told = Told(models=(model,), batch_size=batch_size)
            ideal = ideal_of(model, batch_size)
            call = system.call(model, instance_of(model))
            with bench.noting("slow", system), system.start(told, bench.logs) as running:
                load(running, call, connections=CONNECTIONS, seconds=bench.plan.warm_up_s)
                time.sleep(REST_S)
                seen = timed(running, call, connections=CONNECTIONS, seconds=SECONDS)
                seen["ideal"] = seen["rate"] / ideal
                bench.book.add("slow", case, system.title, **seen)
