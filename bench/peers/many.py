"""Many models in one server, all but one of them idle: what each costs in memory and in latency."""

from __future__ import annotations

import time

import psutil

from bench.peers.rounds import MIB, Bench, load, resident_mib, timed
from bench.peers.samples import instance_of
from bench.peers.told import Told

COUNTS = (1, 30, 300)
REST_S = 10  # time for systems that put away what nobody asks for
ROOM = 0.8  # of the memory that is free, this much may be taken


def case_of(count: int) -> str:
    """Give the name of a case."""
    return "1 model" if count == 1 else f"{count} models"


def measure_many(bench: Bench) -> None:
    """Measure each number of models; the model itself needs nothing but Python."""
    for system in bench.turns("many"):
        alone_mib = each_mib = 0.0
        for count in COUNTS:
            free_mib = psutil.virtual_memory().available / MIB
            if (count * each_mib) > ROOM * free_mib:
                reason = f"{count} models at {each_mib:.0f} MiB do not fit {free_mib:.0f} MiB"
                bench.book.note("many", system.title, reason)
                continue
            told = Told(models=tuple(f"idle-{number}" for number in range(count)))
            call = system.call("idle-0", instance_of("idle-0"))
            with bench.noting("many", system), system.start(told, bench.logs) as running:
                time.sleep(REST_S)
                rss, pss = resident_mib(running.tree())
                load(running, call, connections=1, seconds=bench.plan.warm_up_s)
                seen = timed(running, call, connections=1, seconds=bench.plan.seconds)
                figures = {"start": running.started_in_s, "rss": rss, "pss": pss}
                if count == 1:
                    alone_mib = rss
                else:
                    figures["idle"] = each_mib = (rss - alone_mib) / (count - 1)
                figures |= {"p50": seen["p50"], "p99": seen["p99"], "failed": seen["failed"]}
                bench.book.add("many", case_of(count), system.title, **figures)
