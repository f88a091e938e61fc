"""``python -m bench.releases``: releases under load, stores away, 1,000 models, shadows.

PostgreSQL, an S3 server, RabbitMQ, gateways, workers and the client share the machine. The exit
code is 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from bench.many_models import measure_many_models
from bench.report import report
from bench.rows import Limit, Row, row, tell
from bench.shadowing import measure_shadows
from modelyard.store.schema import open_engine
from modelyard.store.tables import AUDIT
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick
from tests.support.postgres import Postgres
from tests.support.raw import connect, request_bytes
from tests.support.releases import (
    MODEL,
    OFFSETS,
    Load,
    Seen,
    Yard,
    run,
    wait_for_versions,
    with_stores_away,
)

CONNECTIONS = 64
REQUESTS = 20_000
AWAY_S = 60.0
CALLERS = 2_000
CALLER = "x-caller"
COUNT, POINTS = "{:,.0f}", "{:.2f} points"
FAILS = """        if trick.nonce > 1:
            raise ValueError("a canary that fails")
"""


class Ground:
    """A broker, PostgreSQL, and two gateways that keep their routes there."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        broker = stack.enter_context(Broker(folder))
        postgres = stack.enter_context(Postgres())
        self.settings = {
            "MODELYARD_DATABASE_URL": postgres.url,
            "MODELYARD_STATE_FOLDER": str(folder / "state"),
            "MODELYARD_MODEL_CACHE_FOLDER": str(folder / "models"),
            "MODELYARD_ARTEFACTS_URL": str(folder / "artefacts"),
            "MODELYARD_STICKY_HEADER": CALLER,
        }
        run(self.settings, "store", "upgrade")
        self.cluster = Cluster(broker, stack, folder=folder, **self.settings)
        self.gateways = [self.cluster.gateway, self.cluster.start_gateway()]
        self.urls = [gateway.url for gateway in self.gateways]

    async def run(self, *arguments: str) -> None:
        """Run `modelyard …`, which succeeds."""
        await asyncio.to_thread(run, self.settings, *arguments)

    def last_change(self) -> float:
        """Return when the last change was written, on the monotonic clock."""
        engine = open_engine(self.settings["MODELYARD_DATABASE_URL"])
        with engine.connect() as connection:
            at: float = connection.execute(sa.select(sa.func.max(AUDIT.c.at))).scalar_one()
        engine.dispose()
        return at - time.time() + time.monotonic()

    async def release(self, folder: Path, version: str) -> None:
        """Push a version, and start a worker that fetches it."""
        await self.run("registry", "push", str(folder))
        name = Path(f"{MODEL}@{version}")
        await asyncio.to_thread(self.cluster.start_worker, folder=name)

    async def wait_for(self, *versions: str) -> None:
        """Wait until both gateways know of these versions."""
        await asyncio.to_thread(wait_for_versions, self.gateways, versions)

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[Load]:
        """Ask on all connections as long as the block."""
        load = Load(self.urls, connections=CONNECTIONS)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            yield load
            load.end()


async def _release(ground: Ground, folder: Path) -> list[Row]:
    tell("a release under load")
    models = {v: copy_trick(folder, version=v, offset=offset) for v, offset in OFFSETS.items()}
    await ground.release(models["1"], "1")
    await ground.run("route", "promote", MODEL, "1")
    await ground.wait_for("1")
    off = {}
    async with ground.loaded() as load:
        await load.wait_for("1")
        await ground.release(models["2"], "2")
        await ground.wait_for("1", "2")
        for share in (5, 50):
            await ground.run("route", "set", MODEL, f"1={100 - share}", f"2={share}")
            await load.wait_for("1", "2")
            seen = await load.wait_for_more(REQUESTS)
            found = 100 * sum(one.version == "2" for one in seen) / len(seen)
            off[share] = abs(found - share)
        await ground.run("route", "promote", MODEL, "2")
        await load.wait_for("2")
        await ground.run("route", "rollback", MODEL)
        await load.wait_for("1", "2")
    rolled_back = ground.last_change()
    if load.wrong:
        tell(f"the first answer that was not right: {load.wrong[0]}")
    seen_s = max(_first(load.seen, url, "1", since=rolled_back) for url in ground.urls)
    return [
        row("release: answers", [len(load.seen)], COUNT),
        row("release: answers that were not right", [len(load.wrong)], COUNT, Limit("=", 0)),
        *(
            row(f"weights: off from {share} %", [points], POINTS, Limit("≤", 1))
            for share, points in off.items()
        ),
        row("rollback: seen by both gateways", [seen_s], "{:.2f} s", Limit("<", 2)),
    ]


def _first(seen: list[Seen], url: str, version: str, *, since: float) -> float:
    """Return how long a gateway took to answer by a version, in seconds."""
    asked = (one.at for one in seen if one.at >= since and (one.url, one.version) == (url, version))
    return min(asked, default=math.inf) - since


async def _sticky(ground: Ground) -> list[Row]:
    tell("callers that stay")
    await ground.run("route", "set", MODEL, "1=95", "2=5", "--sticky", "header")
    await asyncio.sleep(2)
    few = [await _versions_of_callers(url) for url in ground.urls]
    await ground.run("route", "set", MODEL, "1=50", "2=50", "--sticky", "header")
    await asyncio.sleep(2)
    many = [await _versions_of_callers(url) for url in ground.urls]
    left = sum(b == "2" and a != "2" for b, a in zip(few[0], many[0], strict=True))
    differing = sum(
        one != other for one, other in (*zip(*few, strict=True), *zip(*many, strict=True))
    )
    return [
        row("sticky: callers on the new version at 5 %", [few[0].count("2")], COUNT),
        row("sticky: callers whom gateways answer differently", [differing], COUNT, Limit("=", 0)),
        row("sticky: callers who left the new version", [left], COUNT, Limit("=", 0)),
    ]


async def _versions_of_callers(url: str) -> list[str]:
    """Return which version answers each caller."""
    body, found = b'{"model_name": "%s", "input_data": [{"nonce": 1}]}' % MODEL.encode(), []
    async with await connect(url) as line:
        for number in range(CALLERS):
            answer = await line.ask(request_bytes(body, f"{CALLER}: {number}"))
            found.append(answer.json["model_version"])
    return found


async def _guard(ground: Ground, folder: Path) -> list[Row]:
    tell("a canary that fails")
    failing = copy_trick(folder, version="3", offset=3)
    code = failing / "src" / "model.py"
    acts = "    def act(self, trick: Trick) -> None:\n"
    code.write_text(code.read_text().replace(acts, acts + FAILS))
    await ground.run("route", "promote", MODEL, "1")
    await ground.release(failing, "3")
    await ground.wait_for("1", "2", "3")
    async with ground.loaded() as load:
        await load.wait_for("1")
        await ground.run("route", "set", MODEL, "1=80", "3=20", "--guard")
        await load.wait_for_more(REQUESTS)
    failed = [sum(one.url == url and bool(one.wrong) for one in load.seen) for url in ground.urls]
    last = max(at for at, one in enumerate(load.seen) if one.wrong)
    return [
        row("guard: failed requests at a gateway", failed, COUNT),
        row("guard: at the one with more", [max(failed)], COUNT, Limit("≤", 100)),
        row("guard: at the one with fewer", [min(failed)], COUNT, Limit("≥", 20)),
        row("guard: answers since the last that failed", [len(load.seen) - last], COUNT),
    ]


async def _away(folder: Path, *, seconds: float) -> list[Row]:
    tell(f"PostgreSQL and S3 away for {seconds:.0f} s")
    with ExitStack() as stack:
        yard = Yard(stack, stack.enter_context(Broker(folder)), folder)
        load = await with_stores_away(yard, seconds=seconds)
    if load.wrong:
        tell(f"the first answer that was not right: {load.wrong[0]}")
    return [
        row("stores away: answers", [len(load.seen)], COUNT),
        row("stores away: answers that were not right", [len(load.wrong)], COUNT, Limit("=", 0)),
    ]


def _measure(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    if "release" in options.only:
        with ExitStack() as stack:
            ground = Ground(stack, folder)
            yield from asyncio.run(_release(ground, folder))
            yield from asyncio.run(_sticky(ground))
            yield from asyncio.run(_guard(ground, folder))
    if "away" in options.only:
        (folder / "away").mkdir()
        yield from asyncio.run(_away(folder / "away", seconds=options.away_s))
    if "many" in options.only:
        yield from measure_many_models(folder)
    if "shadows" in options.only:
        yield from measure_shadows(folder)


def main() -> int:
    """Measure; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.releases", description=__doc__)
    parts = ("release", "away", "many", "shadows")
    parser.add_argument("--only", action="append", choices=parts, help="this part alone")
    parser.add_argument("--away-s", type=float, default=AWAY_S, help="how long stores are away")
    options = parser.parse_args()
    options.only = options.only or parts
    with tempfile.TemporaryDirectory() as folder:
        return report(partial(_measure, Path(folder), options))


if __name__ == "__main__":
    sys.exit(main())
