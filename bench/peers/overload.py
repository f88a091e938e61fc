"""Overload: twice what a system can answer, at a constant rate, each client waiting one second.

The capacity is the system's own, measured just before with clients that wait for their answers.
"""

from __future__ import annotations

from bench.openloop import Outcome, Request, run_open_loop
from bench.peers.rounds import Bench, timed
from bench.peers.samples import instance_of, is_close
from bench.peers.system import Call, Running
from bench.peers.told import Told

MODEL, CASE = "brief_each", "2 ms per instance, twice the capacity"
PATIENCE_S = 1.0
CONNECTIONS, TIMES = 16, 2
# What a server of the ideal capacity, 500/s, answers within most of a client's patience.
QUEUE = 400


def measure_overload(bench: Bench) -> None:
    """Measure the capacity, then what is left of it when twice as much is asked."""
    told = Told(models=(MODEL,), batch_size=1, timeout_s=PATIENCE_S, queue=QUEUE)
    for system in bench.turns("overload"):
        call = system.call(MODEL, instance_of(MODEL))
        with bench.noting("overload", system), system.start(told, bench.logs) as running:
            seen = timed(running, call, connections=CONNECTIONS, seconds=bench.plan.seconds)
            outcome = offer(running, call, rate=TIMES * seen["rate"], seconds=bench.plan.seconds)
            figures = figures_of(outcome, capacity=seen["rate"])
            bench.book.add("overload", CASE, system.title, **figures)


def offer(running: Running, call: Call, *, rate: float, seconds: float) -> Outcome:
    """Send at ``rate``, whatever comes back."""
    wanted = instance_of(MODEL)
    request = Request(
        call.path, call.body, call.headers, lambda body: is_close(call.read(body), wanted)
    )
    return run_open_loop(
        running.url, request, rate=rate, seconds=seconds, patience_s=PATIENCE_S
    )


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
