"""A model that waits, 20 ms for each instance: how throughput grows with its processes."""

from __future__ import annotations

import time

from bench.peers.rounds import Bench, load, timed
from bench.peers.samples import instance_of
from bench.peers.slow import CONNECTIONS, REST_S, ideal_of
from bench.peers.told import Told

MODEL = "slow_each"
RUNNERS = (1, 2, 4, 8)


def case_of(runners: int) -> str:
    """Give the name of a case."""
    return "1 process" if runners == 1 else f"{runners} processes"


def measure_spread(bench: Bench) -> None:
    """Measure each number of model processes."""
    for system in bench.turns("spread"):
        ideal = ideal_of(MODEL, 1)
        call = system.call(MODEL, instance_of(MODEL))
        for runners in RUNNERS:
            told = Told(models=(MODEL,), batch_size=1, runners=runners)
            with bench.noting("spread", system), system.start(told, bench.logs) as running:
                load(running, call, connections=CONNECTIONS, seconds=bench.plan.warm_up_s)
                time.sleep(REST_S)
                seconds = bench.plan.seconds
                seen = timed(running, call, connections=CONNECTIONS, seconds=seconds)
                seen["ideal"] = seen["rate"] / (runners * ideal)
                bench.book.add("spread", case_of(runners), system.title, **seen)
