"""Throughput, latency and processor time beside the echo, and what is in memory afterwards."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.load import Seen, run_load
from bench.memory import measure_memory
from bench.processes import Server
from bench.rows import Limit, Plan, Row, details, row, tell
from bench.subjects import FAST, body_of, check_alike, check_answers, echo, modelyard

MANY, ONE = 64, 1
FOLDER = f"models/{FAST}"


class Case(NamedTuple):
    """How the servers are asked."""

    connections: int
    has_equal_heads: bool = False

    @property
    def title(self) -> str:
        """What the report calls it."""
        plural = "" if self.connections == 1 else "s"
        return f"{self.connections} connection{plural}" + ", equal heads" * self.has_equal_heads


ORDINARY, LONELY, EQUAL = Case(MANY), Case(ONE), Case(MANY, has_equal_heads=True)


class Timed(NamedTuple):
    """One server's share of one round."""

    seen: Seen
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time per answer."""
        return self.cpu_s / max(1, self.seen.answers) * 1e6

    @property
    def client_us(self) -> float:
        """Microseconds of the client's own."""
        return self.seen.client_cpu_s / max(1, self.seen.answers) * 1e6


Rounds = dict[Case, list[list[Timed]]]
"""By case: rounds, in each one entry per server."""


def measure_speed(plan: Plan, logs: Path) -> list[Row]:
    """Load echo, gateway without cache and gateway with all answers cached, in turn."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(server)
            for server in (
                echo(logs),
                modelyard(logs, "cache off", FOLDER, is_cached=False),
                modelyard(logs, "all cached", FOLDER, is_cached=True),
            )
        ]
        for server in servers[1:]:
            check_answers(server, FAST)
        check_alike(*servers)
        for server in servers:
            _time(server, ORDINARY, plan.warm_up_s)
        rounds: Rounds = {ORDINARY: [], LONELY: [], EQUAL: []}
        for number in range(plan.rounds):
            for case, timed in rounds.items():
                tell(f"speed, {case.title}, round {number + 1} of {plan.rounds}")
                turns = (
                    servers[number % 3 :] + servers[: number % 3]
                )  # no place is always the same's
                by_name = {s.name: _time(s, case, plan.round_s) for s in turns}
                timed.append([by_name[server.name] for server in servers])
        return [*_compare(rounds, [s.name for s in servers]), *measure_memory(*servers)]


def _time(server: Server, case: Case, seconds: int) -> Timed:
    before = server.cpu_s()
    seen = run_load(
        server.url,
        body_of(FAST),
        connections=case.connections,
        seconds=seconds,
        has_equal_heads=case.has_equal_heads,
    )
    return Timed(seen, server.cpu_s() - before)


def _compare(rounds: Rounds, names: list[str]) -> list[Row]:
    many, one, equal = rounds[ORDINARY], rounds[LONELY], rounds[EQUAL]

    def share(server: int, of: list[list[Timed]] = many) -> list[float]:
        return [timed[server].seen.rate / timed[0].seen.rate for timed in of]

    def delay(server: int) -> list[float]:
        return [timed[server].seen.p50_ms / timed[0].seen.p50_ms for timed in one]

    def dearer(server: int) -> list[float]:
        pairs = zip(many, equal, strict=True)
        return [differing[server].cpu_us / same[server].cpu_us for differing, same in pairs]

    failures = sum(t.seen.failures for timed in (*many, *one, *equal) for t in timed)
    return [
        row("64 connections: throughput, cache off / echo", share(1), "{:.2f}", Limit("≥", 0.45)),
        row("64 connections: throughput, all cached / echo", share(2), "{:.2f}", Limit("≥", 0.70)),
        row("equal heads: throughput, cache off / echo", share(1, equal), "{:.2f}"),
        row("equal heads: throughput, all cached / echo", share(2, equal), "{:.2f}"),
        row("differing / equal heads: processor, echo", dearer(0), "{:.2f}"),
        row("differing / equal heads: processor, cache off", dearer(1), "{:.2f}"),
        row("1 connection: median latency, cache off / echo", delay(1), "{:.1f}", Limit("≤", 5)),
        row("1 connection: median latency, all cached / echo", delay(2), "{:.1f}"),
        row("failed requests in these runs", [failures], "{:.0f}", Limit("=", 0)),
        *(line for case in rounds for line in _details(rounds[case], names, case.title)),
    ]


def _details(rounds: list[list[Timed]], names: list[str], load: str) -> list[Row]:
    by_server = zip(names, zip(*rounds, strict=True), strict=True)
    return [
        details(
            f"{load}: {name}",
            {
                "p50 {:.2f} ms": [timed.seen.p50_ms for timed in runs],
                "p99 {:.2f} ms": [timed.seen.p99_ms for timed in runs],
                "{:.0f} µs of processor": [timed.cpu_us for timed in runs],
                "{:.0f} µs of the client's": [timed.client_us for timed in runs],
                "{:,.0f}/s": [timed.seen.rate for timed in runs],
            },
        )
        for name, runs in by_server
    ]
