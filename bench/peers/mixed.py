"""A slow and a fast model in one server: the fast one's latency alone, and beside the slow one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.load import LoadError, Seen, run_load
from bench.peers.rounds import Bench, load
from bench.peers.samples import instance_of
from bench.peers.system import Call, Running
from bench.peers.told import Told

FAST, SLOW = "iris", "slow_each"
ALONE, BESIDE = "the fast model alone", "the fast model beside the busy slow one"
FAST_CONNECTIONS, PAUSE_MS, SLOW_CONNECTIONS = 8, 8, 4
SETTLE_S = 0.5


def measure_mixed(bench: Bench) -> None:
    """Load the fast model modestly, without and with load on the slow one."""
    told, seconds = Told(models=(FAST, SLOW)), bench.plan.seconds
    for system in bench.turns("mixed"):
        fast, slow = (system.call(model, instance_of(model)) for model in told.models)
        with bench.noting("mixed", system), system.start(told, bench.logs) as running:
            load(running, fast, connections=FAST_CONNECTIONS, seconds=bench.plan.warm_up_s)
            bench.book.add(
                "mixed", ALONE, system.title, **_figures(_modest(running, fast, seconds))
            )
            with ThreadPoolExecutor(1) as thread:
                busy = thread.submit(
                    load, running, slow, connections=SLOW_CONNECTIONS, seconds=seconds + 2
                )
                time.sleep(SETTLE_S)
                seen = _modest(running, fast, seconds)
                if busy.done():
                    raise LoadError("the load on the slow model ended too early")
            bench.book.add("mixed", BESIDE, system.title, **_figures(seen))


def _modest(running: Running, call: Call, seconds: int) -> Seen:
    return run_load(
        running.url,
        call.body,
        path=call.path,
        headers=call.headers,
        connections=FAST_CONNECTIONS,
        seconds=seconds,
        pause_ms=PAUSE_MS,
    )


def _figures(seen: Seen) -> dict[str, float]:
    return {"rate": seen.rate, "p50": seen.p50_ms, "p99": seen.p99_ms, "failed": seen.failures}
