"""What routes of 1,000 models cost a gateway: their snapshot, p99, and a request's instructions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import msgspec
from sqlalchemy import Engine

from bench.cluster import Cluster
from bench.load import Seen, run_load
from bench.processes import ROOT
from bench.rows import Limit, Row, details, row, tell
from bench.speed import FOLDER
from bench.subjects import FAST, body_of
from modelyard.core.names import Target
from modelyard.core.routes import Guard, Route, Snapshot
from modelyard.dispatch.catalog import Catalog
from modelyard.store.routes import RouteStore
from modelyard.store.schema import open_engine
from tests.support.postgres import Postgres
from tests.support.releases import run
from tests.unit.asking import announcement
from tests.unit.gateway_cost import instructions_of, instructions_with

MODELS, VERSIONS = 1_000, ("1", "2", "3")
ROUNDS, ROUND_S, CONNECTIONS = 7, 3, 16
CHANGES_S = 0.5
CASE = "asked, differing heads"
ASKED = "iris"


def measure_many_models(folder: Path) -> Iterator[Row]:
    """Give the snapshot's size, how long its exchange takes, and what it costs requests."""
    tell(f"{MODELS} models of {len(VERSIONS)} versions")
    yield from _exchange()
    yield from _instructions()
    yield from _latency(folder)


def _snapshot(number: int, *, has_routes: bool = True) -> Snapshot:
    """Give routes that differ from those of the number before, and two aliases of each model."""
    new = float(1 + number % 9)
    route = Route({"1": 99 - new, "2": new, "3": 1.0}, sticky="owner", guard=Guard())
    names = [f"model-with-a-name-{which:04}" for which in range(MODELS)]
    aliases = {"champion": "1", "challenger": "2"}
    routes = dict.fromkeys(names, route) if has_routes else {}
    return Snapshot(number, routes, dict.fromkeys(names, aliases))


def _catalog(snapshot: Snapshot) -> Catalog:
    """Give a catalog that has all versions of a snapshot's models, and one without a route."""
    catalog = Catalog(chance=Random(0))
    for name in snapshot.aliases:
        for version in VERSIONS:
            catalog.announce(announcement(Target(name, version)))
    catalog.router.replace(snapshot)
    return catalog


def _exchange() -> Iterator[Row]:
    catalog, taken = _catalog(_snapshot(0)), []
    for number in range(1, 30):
        snapshot = msgspec.json.decode(msgspec.json.encode(_snapshot(number)), type=Snapshot)
        began = time.perf_counter()
        catalog.router.replace(snapshot)
        taken.append(1e3 * (time.perf_counter() - began))
    size = len(msgspec.json.encode(_snapshot(0))) / 1e6
    yield row("snapshot of 1,000 models", [size], "{:.2f} MB", Limit("<", 1))
    yield row("exchange of all 1,000 routes", taken, "{:.1f} ms", Limit("<", 50))


def _instructions() -> Iterator[Row]:
    alone = instructions_of(CASE)
    for what, versions, guard in (
        ("without a route", (), None),
        ("to one version", ("1",), None),
        ("to one of two", ("1", "2"), None),
        ("to one of two with a guard", ("1", "2"), Guard()),
    ):
        catalog = _catalog(_snapshot(0))
        for version in VERSIONS[1:]:
            catalog.announce(announcement(Target(ASKED, version)))
        routes = dict(catalog.router.snapshot.routes)
        if versions:
            routes[ASKED] = Route(dict.fromkeys(versions, 100 / len(versions)), guard=guard)
        catalog.router.replace(msgspec.structs.replace(catalog.router.snapshot, routes=routes))
        rise = 100 * (instructions_with(catalog, CASE) / alone - 1)
        yield row(
            f"instructions of a request {what}, beside 1,000 routes with guards",
            [rise],
            "{:+.1f} %",
            Limit("≤", 3),
        )


def _latency(folder: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        settings = {
            "MODELYARD_DATABASE_URL": postgres.url,
            "MODELYARD_STATE_FOLDER": str(folder / "many"),
            "MODELYARD_CACHE_BYTES": "0",
        }
        run(settings, "store", "upgrade")
        engine = open_engine(postgres.url)
        store = RouteStore(engine, wall_clock=time.time)
        _change(store, 0)
        began = time.perf_counter()
        RouteStore(engine, wall_clock=time.time).read()
        read_ms = 1e3 * (time.perf_counter() - began)
        cluster = stack.enter_context(Cluster(folder, **settings))
        cluster.start("worker", str(ROOT / FOLDER))
        gateway = cluster.start("gateway")
        seen: dict[str, list[Seen]] = {"as they are": [], "exchanged": []}

        def load() -> Seen:
            return run_load(gateway.url, body_of(FAST), connections=CONNECTIONS, seconds=ROUND_S)

        load()
        for number in range(ROUNDS):
            tell(f"1,000 routes, round {number + 1} of {ROUNDS}")
            seen["as they are"].append(load())
            with _changing(engine):
                seen["exchanged"].append(load())
        engine.dispose()
    pairs = list(zip(*seen.values(), strict=True))
    growth = [changed.p99_ms / still.p99_ms for still, changed in pairs]
    failures = sum(one.failures for pair in pairs for one in pair)
    yield row("reading 1,000 routes from PostgreSQL", [read_ms], "{:.0f} ms")
    yield row("p99 with routes exchanged / as they are", growth, "{:.2f}", Limit("≤", 1.1))
    yield row("failed requests in these runs", [failures], "{:.0f}", Limit("=", 0))
    for state, runs in seen.items():
        figures = {
            "p50 {:.2f} ms": [one.p50_ms for one in runs],
            "p99 {:.2f} ms": [one.p99_ms for one in runs],
        }
        yield details(f"1,000 routes {state}, {CONNECTIONS} at a time", figures)


def _change(store: RouteStore, number: int) -> None:
    there = {one.model: one for one in store.all()}
    routes = _snapshot(number).routes
    changes = [(there.get(name) or store.find(name), route) for name, route in routes.items()]
    store.change(changes if not there else changes[:1], actor="bench", why="")


@contextmanager
def _changing(engine: Engine) -> Iterator[None]:
    """Change a route twice a second as long as the block: each time all of them are read."""
    is_over = threading.Event()
    store = RouteStore(engine, wall_clock=time.time)

    def change() -> None:
        number = 1
        while not is_over.wait(CHANGES_S):
            _change(store, number)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
