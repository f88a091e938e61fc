"""Overload: twice what a system can answer, at a constant rate, each client waiting one second.

The capacity is the system's own, measured just before with clients that wait for their answers. By
it the queue is bounded, in the systems that can be told so: what waits is answered within half of a
client's patience. Those that can be told a timeout are told a little less than that patience.
"""

from __future__ import annotations

from bench.openloop import Outcome, Request, run_open_loop
from bench.peers.rounds import Bench, load, timed
from bench.peers.samples import instance_of, is_close
from bench.peers.system import Call, Running
from bench.peers.told import Told

MODEL, CASE = "brief_each", "2 ms per instance, twice the capacity"
PATIENCE_S, TIMEOUT_S, QUEUED_S = 1.0, 0.9, 0.5
CONNECTIONS, TIMES = 64, 2


def measure_overload(bench: Bench) -> None:
    """Measure the capacity, then what is left of it when twice as much is asked."""
    told, seconds = Told(models=(MODEL,), batch_size=1), bench.plan.seconds
    for system in bench.turns("overload"):
        call = system.call(MODEL, instance_of(MODEL))
        with bench.noting("overload", system):
            with system.start(told, bench.logs) as running:
                load(running, call, connections=CONNECTIONS, seconds=bench.plan.warm_up_s)
                seen = timed(running, call, connections=CONNECTIONS, seconds=seconds)
            capacity = seen["rate"]
            bounded = told._replace(timeout_s=TIMEOUT_S, queue=max(1, round(QUEUED_S * capacity)))
            with system.start(bounded, bench.logs) as running:
                load(running, call, connections=CONNECTIONS, seconds=bench.plan.warm_up_s)
                outcome = offer(running, call, rate=TIMES * capacity, seconds=seconds)
            figures = figures_of(outcome, capacity=capacity)
            bench.book.add("overload", CASE, system.title, **figures)


def offer(running: Running, call: Call, *, rate: float, seconds: float) -> Outcome:
    """Send at ``rate``, whatever comes back."""
    wanted = instance_of(MODEL)
    request = Request(
        call.path, call.body, call.headers, lambda body: is_close(call.read(body), wanted)
    )
    return run_open_loop(running.url, request, rate=rate, seconds=seconds, patience_s=PATIENCE_S)


def figures_of(outcome: Outcome, *, capacity: float) -> dict[str, float]:
    """Give the figures by measure."""
    in_time = outcome.in_time / outcome.seconds
    return {
        "capacity": capacity,
        "offered": outcome.offered / outcome.seconds,
        "in_time": in_time,
        "share": in_time / capacity,
        "p99": outcome.in_time_p99_ms,
        "refused": outcome.refused / outcome.offered,
        "refusal_p99": outcome.refused_p99_ms,
        "lost": (outcome.late + outcome.wrong) / outcome.offered,
        "sent_late": outcome.sent_late_p99_ms,
    }
