"""The fast model beside the slow one: how much slower it gets, and how much of that is the cores.

The control is a busy loop in place of the slow model: what that does to the fast model comes from
sharing the machine, whatever else Modelyard may share.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from bench.load import LoadError, Seen, run_load
from bench.processes import Server
from bench.rows import Limit, Plan, Row, details, row, tell
from bench.subjects import ALL_MODELS, FAST, SLOW, body_of, check_answers, check_ready, modelyard

FAST_CONNECTIONS, PAUSE_MS = 8, 8
SLOW_CONNECTIONS = 4
SETTLE_S = 0.5
STATES = ("alone", "beside the slow model", "beside a busy loop")


def measure_neighbours(plan: Plan, logs: Path) -> list[Row]:
    """Load the fast model modestly: alone, beside the slow model, beside a busy loop, in turn."""
    seen: dict[str, list[Seen]] = {state: [] for state in STATES}
    slow: list[Seen] = []
    with modelyard(logs, "three models", "models", is_cached=False) as server:
        check_ready(server)
        check_answers(server, *ALL_MODELS)
        _load_fast(server, plan.warm_up_s)
        for number in range(plan.rounds):
            tell(f"fast beside slow, round {number + 1} of {plan.rounds}")
            seen[STATES[0]].append(_load_fast(server, plan.round_s))
            with _slow_load(server, plan.round_s, slow):
                seen[STATES[1]].append(_load_fast(server, plan.round_s))
            with _busy_loop():
                seen[STATES[2]].append(_load_fast(server, plan.round_s))
    return _rows(seen, slow)


def _load_fast(server: Server, seconds: int) -> Seen:
    return run_load(
        server.url,
        body_of(FAST),
        connections=FAST_CONNECTIONS,
        seconds=seconds,
        pause_ms=PAUSE_MS,
    )


@contextmanager
def _slow_load(server: Server, seconds: int, seen: list[Seen]) -> Iterator[None]:
    """Keep the slow model busy from before the block until after it."""
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(
            run_load,
            server.url,
            body_of(SLOW),
            connections=SLOW_CONNECTIONS,
            seconds=seconds + 1,
        )
        time.sleep(SETTLE_S)
        yield
        if load.done():
            raise LoadError("the load on the slow model ended too early")
        seen.append(load.result())
    check_answers(server, SLOW)  # so what was left in its queue is done


@contextmanager
def _busy_loop() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(SETTLE_S)
            yield
        finally:
            process.kill()


def _rows(seen: dict[str, list[Seen]], slow: list[Seen]) -> list[Row]:
    beside = zip(seen[STATES[1]], seen[STATES[2]], strict=True)
    failures = sum(one.failures for one in chain(slow, *seen.values()))
    return [
        row(
            "fast model: p99 beside the slow model / beside a busy loop",
            [one.p99_ms / control.p99_ms for one, control in beside],
            "{:.2f}",
        ),
        *(
            details(
                f"fast model {state}",
                {
                    "{:,.0f}/s": [one.rate for one in runs],
                    "p50 {:.2f} ms": [one.p50_ms for one in runs],
                    "p99 {:.2f} ms": [one.p99_ms for one in runs],
                },
            )
            for state, runs in seen.items()
        ),
        row("slow model: requests meanwhile", [one.rate for one in slow], "{:.1f}/s"),
        row("failed requests in these runs", [failures], "{:.0f}", Limit("=", 0)),
    ]
