"""``python -m bench.made_up``: the pages of a gateway that has 300 models, an hour of their figures
and 10,000 jobs, all of it made up, so that no model has to run. Pages, store and server are real.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from random import Random
from typing import cast

import msgspec
from fastapi import FastAPI

from modelyard.compose.console import make_console
from modelyard.compose.jobs import OpenJobs, open_jobs
from modelyard.console.interfaces import Predictions
from modelyard.core.errors import Failure
from modelyard.core.manifest import Limits
from modelyard.core.messages import Announcement, Answers, Schema
from modelyard.core.names import Target
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.app import make_pages
from modelyard.gateway.bind import bind
from modelyard.gateway.reader import Limits as Read
from modelyard.gateway.server import make_server
from modelyard.jobs.job import NewJob, Uids
from modelyard.settings import Settings
from modelyard.store.jobs import JobStore
from modelyard.store.schema import open_engine, upgrade
from modelyard.store.tables import JOBS
from modelyard.telemetry.faults import Faults
from modelyard.telemetry.history import EVERY_S, KEPT_S, History
from modelyard.telemetry.metrics import Metrics

MODELS, FEATURES = 300, 24
JOBS_KEPT, BULK_EVERY = 10_000, 4
READ = Read(header_timeout_s=10, body_timeout_s=30, max_body_bytes=1_000_000)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m bench.made_up")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(_serve(options.state, options.port))


async def _serve(state: Path, port: int) -> None:
    settings = Settings(state_folder=str(state))
    _keep_jobs(settings)
    jobs = open_jobs(settings, is_alone=True)
    pages = make_app(settings, models=MODELS, jobs=jobs, has_figures=True)
    server = make_server(pages, endpoint=None, limits=READ, drain_s=1)
    await server.serve(sockets=[bind("127.0.0.1", port)])


def make_app(
    settings: Settings, *, models: int, jobs: OpenJobs | None, has_figures: bool
) -> FastAPI:
    """Return the pages of a gateway that has so many models. ``has_figures``: of an hour."""
    catalog, metrics = Catalog(chance=Random(0)), Metrics()
    for number in range(models):
        catalog.announce(_announcement(number))
    targets = [entry.target for entry in catalog.entries()] if has_figures else []
    console = make_console(
        settings,
        catalog=catalog,
        metrics=metrics,
        history=_hour(metrics, targets),
        faults=Faults(),
        workers=None,
        predictions=cast("Predictions", None),  # nothing is tried
        opened=None,
        jobs=jobs,
        may_change=True,
        verdict=_ready,
    )
    return make_pages(
        catalog=catalog,
        version="0",
        render_metrics=metrics.page,
        verdict=_ready,
        jobs=None if jobs is None else jobs.desk,
        console=None if console is None else console.routes,
    )


def _ready() -> Verdict:
    return Verdict("ready", is_ready=True)


def _announcement(number: int) -> Announcement:
    names = [f"feature_{which}" for which in range(FEATURES)]
    flat = {"type": "object", "properties": {name: {"type": "number"} for name in names}}
    schema = {"type": "array", "items": {**flat, "required": names}}
    is_failed = number % 50 == 7
    return Announcement(
        target=Target(f"model-with-a-name-{number:03}", "1"),
        state="failed" if is_failed else "ready",
        description="Made up",
        limits=Limits(),
        cache_ttl_s=60,
        max_batch_size=64,
        runners=2,
        runners_ready=0 if is_failed else 2,
        digest="sha256:0",
        schema=Schema(
            input=msgspec.json.encode(schema),
            output=msgspec.json.encode({"type": "array", "items": {"type": "number"}}),
            example=msgspec.json.encode([dict.fromkeys(names, 1.5)]),
        ),
        reason="FileNotFoundError: assets/weights.onnx" if is_failed else "",
    )


def _hour(metrics: Metrics, targets: list[Target]) -> History:
    """Give a history in which every model was asked all the time."""
    chance, begin = Random(0), time.time() - KEPT_S
    now = begin
    history = History(metrics.readings, wall_clock=lambda: min(now, time.time()))
    for _ in range(int(KEPT_S / EVERY_S)):
        for target in targets:
            seconds = chance.expovariate(100)
            metrics.answered(target, "model_failed" if chance.random() < 0.002 else "ok", seconds)
            pool = metrics.of_pool(target)
            pool.batch_started([seconds / 4])
            pool.batch_answered(Answers([b"1"], model_s=seconds / 2, sizes=[1]))
        now += EVERY_S
        history.take()
    now = float("inf")
    return history


def _keep_jobs(settings: Settings) -> None:
    """Keep jobs of all states; each fourth is a bulk run."""
    engine = open_engine(settings.store_url)
    upgrade(engine)
    uids, now, chance = Uids(os.urandom), time.time(), Random(0)
    jobs = [_job(uids, now - JOBS_KEPT + number, number) for number in range(JOBS_KEPT)]
    JobStore(engine, wall_clock=time.time).accept(jobs)
    why = msgspec.json.encode(Failure("model_failed", "the model raised ValueError: no such city"))
    states = ["succeeded"] * 6 + ["failed", "cancelled", "queued", "running"]
    with engine.begin() as connection:
        for job in jobs:
            state = chance.choice(states)
            is_over = state not in ("queued", "running")
            values = {
                "state": state,
                "started": job.created + 1,
                "finished": job.created + 2.5 if is_over else None,
                "attempt": 1,
                "error": why.decode() if state == "failed" else None,
                "progress": 0.4 if state == "running" else None,
            }
            connection.execute(JOBS.update().where(JOBS.c.uid == job.uid).values(**values))
    engine.dispose()


def _job(uids: Uids, at: float, number: int) -> NewJob:
    uid = uids.new(at)
    return NewJob(
        uid=uid,
        id=uid if number % 2 else f"night-run-{number:05}",
        tenant="",
        owner="",
        key="",
        model=f"model-with-a-name-{number % MODELS:03}",
        version=None,
        form="json",
        door="" if number % BULK_EVERY else "bulk",
        echo="",
        input=b"[]",
        timeout_s=None,
        rank=0,
        created=at,
        ready_at=at,
        deadline=at + 1e9,
        max_attempts=3,
        callback=None,
        idempotency_key=None,
        digest=uid,
    )


if __name__ == "__main__":
    main()
