"""The cluster: beside the embedded shape, with workers killed, with many, and without Redis."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.load import JSON, MARK, Seen, run_load
from bench.openloop import Outcome, Request, run_open_loop
from bench.processes import ROOT, Server, cpu_s_of
from bench.rows import Limit, Plan, Row, details, row, tell
from bench.speed import FOLDER, MANY, ONE, Timed
from bench.subjects import FAST, FAST_ANSWER, ask, body_of, check_answers, modelyard
from tests.support.broker import Broker
from tests.support.cache import RedisServer

PROGRAM = str(Path(sys.executable).with_name("modelyard"))
WAITING, WAIT_S = "bench/simulate/waiting_model", 0.05
WAITING_BODY = '{"model_name": "waiting_model", "input_data": [1]}'
WORKERS, GATEWAYS, CONNECTIONS = 8, 2, 32
KILL_EVERY_S = 2
REST_S = 2


class Cluster:
    """A broker, and what is started around it until the ``with`` block ends."""

    def __init__(self, logs: Path, **settings: str) -> None:
        self._logs = logs
        self._settings = settings
        self._stack = ExitStack()
        self._members: list[Server] = []

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            broker = stack.enter_context(Broker(Path(folder)))
            self._settings["MODELYARD_AMQP_URL"] = broker.url
            self._broker = broker
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *command: str) -> Server:
        """Start a gateway or a worker, and wait until it is ready."""
        name = f"cluster-{command[0]}-{len(self._members) + 1}"
        server = Server(
            name,
            [PROGRAM, *command],
            environment=self._settings,
            log=self._logs / f"{name}.log",
        )
        self._members.append(server)
        return self._stack.enter_context(server)

    def cpu_s(self) -> float:
        """Give the seconds of processor time of all members and of the broker."""
        members = [process for server in self._members for process in server.tree()]
        return cpu_s_of([*members, *self._broker.tree()])


def measure_cluster(plan: Plan, logs: Path) -> list[Row]:
    """Measure what a broker in the way costs, and what it is good for."""
    return [
        *_beside_embedded(plan, logs),
        *_with_killed_workers(plan, logs),
        *_spread(plan, logs),
        *_without_redis(plan, logs),
    ]


def _beside_embedded(plan: Plan, logs: Path) -> list[Row]:
    with Cluster(logs, MODELYARD_CACHE_BYTES="0") as cluster:
        cluster.start("worker", str(ROOT / FOLDER))
        gateway = cluster.start("gateway")
        with modelyard(logs, "beside the cluster", FOLDER, is_cached=False) as embedded:
            seen: dict[tuple[int, str], list[Timed]] = {}
            for server in (gateway, embedded):
                check_answers(server, FAST)
                run_load(server.url, body_of(FAST), connections=MANY, seconds=plan.warm_up_s)
            for number in range(plan.rounds):
                tell(f"cluster beside embedded, round {number + 1} of {plan.rounds}")
                for connections in (MANY, ONE):
                    for shape, server, system in (
                        ("cluster", gateway, cluster),
                        ("embedded", embedded, embedded),
                    ):
                        before = system.cpu_s()
                        one = run_load(
                            server.url,
                            body_of(FAST),
                            connections=connections,
                            seconds=plan.round_s,
                        )
                        timed = Timed(one, system.cpu_s() - before)
                        seen.setdefault((connections, shape), []).append(timed)
    many = list(zip(seen[MANY, "cluster"], seen[MANY, "embedded"], strict=True))
    rates = [ours.seen.rate / theirs.seen.rate for ours, theirs in many]
    costs = [ours.cpu_us / theirs.cpu_us for ours, theirs in many]
    delays = [
        ours.seen.p50_ms / theirs.seen.p50_ms
        for ours, theirs in zip(seen[ONE, "cluster"], seen[ONE, "embedded"], strict=True)
    ]
    failures = sum(one.seen.failures for runs in seen.values() for one in runs)
    return [
        row("cluster / embedded, 64 connections: throughput", rates, "{:.2f}"),
        row("cluster / embedded, 64 connections: processor", costs, "{:.2f}"),
        row("cluster / embedded, 1 connection: median latency", delays, "{:.1f}"),
        row("cluster: failed requests in these runs", [failures], "{:.0f}", Limit("=", 0)),
        *(
            details(
                f"{shape} beside the other, {connections} at a time",
                {
                    "p50 {:.2f} ms": [one.seen.p50_ms for one in runs],
                    "p99 {:.2f} ms": [one.seen.p99_ms for one in runs],
                    "{:.0f} µs of processor": [one.cpu_us for one in runs],
                    "{:,.0f}/s": [one.seen.rate for one in runs],
                },
            )
            for (connections, shape), runs in seen.items()
        ),
    ]


def _with_killed_workers(plan: Plan, logs: Path) -> list[Row]:
    with Cluster(logs, MODELYARD_CACHE_BYTES="0") as cluster:
        workers = [cluster.start("worker", str(ROOT / FOLDER)) for _ in range(2)]
        gateways = [cluster.start("gateway") for _ in range(GATEWAYS)]
        for gateway in gateways:
            check_answers(gateway, FAST)
        tell(f"killing one of two workers every {KILL_EVERY_S} s for {plan.kill_s} s")
        with ThreadPoolExecutor(GATEWAYS) as threads:
            loads = [
                threads.submit(
                    run_load,
                    gateway.url,
                    body_of(FAST),
                    connections=MANY // GATEWAYS,
                    seconds=plan.kill_s,
                    expected=FAST_ANSWER,
                )
                for gateway in gateways
            ]
            kills = 0
            while not all(load.done() for load in loads):
                time.sleep(KILL_EVERY_S)
                victim = workers.pop(0)
                for process in victim.tree():
                    process.kill()
                workers.append(cluster.start("worker", str(ROOT / FOLDER)))
                kills += 1
            seen = [load.result() for load in loads]
    count = "{:,.0f}"
    wrong, errors = sum(one.unexpected for one in seen), sum(one.socket_errors for one in seen)
    return [
        row("killed workers: answers other than 200 and right", [wrong], count, Limit("=", 0)),
        row("killed workers: socket errors", [errors], count, Limit("=", 0)),
        row("killed workers: workers killed", [kills], count, Limit("≥", plan.kill_s // 5)),
        row("killed workers: answers", [sum(one.answers for one in seen)], count),
        row("killed workers: longest", [max(one.max_ms for one in seen)], "{:.0f} ms"),
    ]


@contextmanager
def _waiting(logs: Path) -> Iterator[Sequence[Server]]:
    with Cluster(logs) as cluster:
        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(cluster.start, ["worker"] * WORKERS, [str(ROOT / WAITING)] * WORKERS))
        gateways = [cluster.start("gateway") for _ in range(GATEWAYS)]
        for gateway in gateways:
            ask(gateway, WAITING_BODY)
        yield gateways


def _spread(plan: Plan, logs: Path) -> list[Row]:
    seconds, ideal = 5 * plan.round_s, WORKERS / WAIT_S
    request = Request("/predict", WAITING_BODY.encode(), JSON, lambda body: b"[1]" in body)
    with _waiting(logs) as gateways, ThreadPoolExecutor(GATEWAYS) as threads:
        tell(f"{WORKERS} workers of a model that waits {WAIT_S * 1000:.0f} ms")

        def load(gateway: Server) -> Seen:
            share = CONNECTIONS // GATEWAYS
            return run_load(gateway.url, WAITING_BODY, connections=share, seconds=seconds)

        def offer(gateway: Server) -> Outcome:
            rate = 0.8 * ideal / GATEWAYS
            return run_open_loop(gateway.url, request, rate=rate, seconds=seconds, patience_s=5)

        seen = list(threads.map(load, gateways))
        time.sleep(REST_S)  # what is still in the queues has lost its clients
        offered = list(threads.map(offer, gateways))
    share = sum(one.rate for one in seen) / ideal
    failed = sum(one.failures for one in seen) + sum(one.wrong + one.late for one in offered)
    p99_s = max(one.in_time_p99_ms for one in offered) / 1000
    return [
        row("spread: answers/s, share of the ideal", [share], "{:.0%}", Limit("≥", 0.95)),
        row("spread: p99 at 80 % load / service time", [p99_s / WAIT_S], "{:.1f}", Limit("<", 3)),
        row("spread: failed requests", [failed], "{:.0f}", Limit("=", 0)),
    ]


def _without_redis(plan: Plan, logs: Path) -> list[Row]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(RedisServer(Path(folder)))
        settings = {"MODELYARD_CACHE_BYTES": "0", "MODELYARD_REDIS_URL": redis.url}
        cluster = stack.enter_context(Cluster(logs, **settings))
        cluster.start("worker", str(ROOT / FOLDER))
        gateway = cluster.start("gateway")
        check_answers(gateway, FAST)
        tell("Redis stopped under load")

        body = body_of(FAST).replace("0.2]", f"0.2{MARK}]")  # no two are alike

        def load() -> Seen:
            return run_load(gateway.url, body, connections=8, seconds=2 * plan.round_s)

        running = [load() for _ in range(plan.rounds)]
        with redis.frozen():
            opening = load()  # the breaker opens within the first of its requests
            stopped = [load() for _ in range(plan.rounds)]
    failed = opening.failures + sum(one.failures for one in (*running, *stopped))
    p99_ms = [statistics.median(one.p99_ms for one in runs) for runs in (running, stopped)]
    return [
        row("Redis stopped: failed requests", [failed], "{:.0f}", Limit("=", 0)),
        row("Redis stopped: growth of p99", [p99_ms[1] - p99_ms[0]], "{:.1f} ms", Limit("≤", 10)),
        *(
            details(
                f"Redis {state}: misses, 8 at a time",
                {
                    "p50 {:.2f} ms": [one.p50_ms for one in runs],
                    "p99 {:.2f} ms": [one.p99_ms for one in runs],
                },
            )
            for state, runs in (("running", running), ("stopped", stopped))
        ),
    ]
