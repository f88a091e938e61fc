"""Small requests: one flower, at 1, 8, 64 and 512 connections; and what start and memory were.

Each request has an id and a trace of its own; that with equal heads is a case of its own.

Every round starts the systems anew, one after the other, so that none has another's processes
beside it, and every round knows the time to the first answer.
"""

from __future__ import annotations

from statistics import median

from bench.peers.rounds import Bench, load, resident_mib, timed
from bench.peers.samples import instance_of
from bench.peers.system import System
from bench.peers.told import Told

BATCHED, UNBATCHED, EQUAL_HEADS = "batched", "batching off", "equal heads"
CONNECTIONS = (1, 8, 64, 512)
STARTS = 3  # in each round: the first may have to read its files from the disk


def case_of(connections: int, setting: str = BATCHED) -> str:
    """Give the name of a case."""
    plural = "" if connections == 1 else "s"
    return f"{connections} connection{plural}" + ("" if setting == BATCHED else f", {setting}")


def measure_small(bench: Bench) -> None:
    """Measure the iris model."""
    for system in bench.turns("small"):
        with bench.noting("small", system):
            _measure_start(bench, system)
            _measure(bench, system, Told(), CONNECTIONS)
        if system.has_batching:
            with bench.noting("small", system):
                _measure(bench, system, Told(batch_size=1), (1,))


def _measure_start(bench: Bench, system: System) -> None:
    started: list[float] = []
    for _ in range(STARTS):
        with system.start(Told(), bench.logs) as running:
            started.append(running.started_in_s)
    bench.book.add("start", "to the first answer", system.title, start=median(started))


def _measure(bench: Bench, system: System, told: Told, all_connections: tuple[int, ...]) -> None:
    setting = BATCHED if told.batch_size > 1 else UNBATCHED
    book, title, plan = bench.book, system.title, bench.plan
    call = system.call("iris", instance_of("iris"))
    with system.start(told, bench.logs) as running:
        load(running, call, connections=8, seconds=plan.warm_up_s)
        for connections in all_connections:
            with bench.noting("small", system):  # too many for one system, fine for the next
                seen = timed(running, call, connections=connections, seconds=plan.seconds)
                book.add("small", case_of(connections, setting), title, **seen)
            if connections == 64:
                with bench.noting("small", system):
                    seen = timed(
                        running,
                        call,
                        connections=connections,
                        seconds=plan.seconds,
                        has_equal_heads=True,
                    )
                    book.add("small", case_of(connections, EQUAL_HEADS), title, **seen)
                rss, pss = resident_mib(running.tree())
                support, _ = resident_mib(running.support())
                book.add("memory", "after the load", title, rss=rss, pss=pss, rss_support=support)
