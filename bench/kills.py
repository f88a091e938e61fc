"""The runner is killed every second, under load: do clients notice?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.load import run_load
from bench.memory import RUNNER
from bench.processes import Server
from bench.rows import Limit, Plan, Row, details, row, tell
from bench.speed import FOLDER, MANY
from bench.subjects import FAST, FAST_ANSWER, body_of, check_answers, modelyard


def measure_kills(plan: Plan, logs: Path) -> list[Row]:
    """Compare every answer, while ``kill -9`` ends the runner once a second."""
    with (
        modelyard(logs, "kills", FOLDER, is_cached=False) as server,
        ThreadPoolExecutor(1) as thread,
    ):
        check_answers(server, FAST)
        tell(f"killing the runner every second for {plan.kill_s} s")
        load = thread.submit(
            run_load,
            server.url,
            body_of(FAST),
            connections=MANY,
            seconds=plan.kill_s,
            expected=FAST_ANSWER,
        )
        kills = _kill_every_second(server, plan.kill_s)
        seen = load.result()
    if seen.sample:
        tell(f"the first answer that was not right: {seen.sample}")
    count = "{:,.0f}"
    return [
        row("kills: answers other than 200 and right", [seen.unexpected], count, Limit("=", 0)),
        row("kills: socket errors", [seen.socket_errors], count, Limit("=", 0)),
        row("kills: runners killed", [kills], count, Limit("≥", plan.kill_s * 9 // 10)),
        row("kills: answers", [seen.answers], count, Limit("≥", 1000)),
        details(
            "kills: latency",
            {
                "p50 {:.2f} ms": [seen.p50_ms],
                "p99 {:.0f} ms": [seen.p99_ms],
                "longest {:.0f} ms": [seen.max_ms],
            },
        ),
    ]


def _kill_every_second(server: Server, seconds: int) -> int:
    """Kill in the middle of each second; give how many runners that ended."""
    began, kills, last = time.monotonic(), 0, 0
    for second in range(seconds):
        time.sleep(max(0.0, began + second + 0.5 - time.monotonic()))
        while time.monotonic() < began + second + 1.4:
            runner = server.find(RUNNER)
            if runner is not None and runner.pid != last:
                try:
                    runner.kill()
                except psutil.NoSuchProcess:
                    continue
                kills, last = kills + 1, runner.pid
                break
            time.sleep(0.01)
    return kills
