"""``python -m bench.jobs``: how fast jobs are accepted, beside what the database can do bare.

Bare is a process that does nothing but insert the same rows, as many in a transaction as there are
connections. Then the same database is behind ``modelyard serve``, and wrk asks for jobs. Both
are in one run and in turns. Nothing is faked: each transaction waits for the disk. The exit code is
1 if submissions are less than half as fast.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psutil
import sqlalchemy as sa

from bench.load import JSON, LoadError, run_load
from bench.report import report
from bench.rows import Limit, Row, row
from modelyard.jobs.job import NewJob, Uids
from modelyard.store.changing import begin
from modelyard.store.job_rows import insert_into
from modelyard.store.schema import open_engine
from tests.e2e.conftest import TRICK
from tests.support.postgres import Postgres
from tests.support.server import MODELYARD, Server, wait_until

UIDS = Uids(os.urandom)
LEAST = 0.5
ROUNDS = 3
SECONDS = 4
CONNECTIONS = (64, 256)
BODY = json.dumps({"model_name": "trick_model", "input_data": [{"nonce": 1}]})
WANTED = {**JSON, "Prefer": "respond-async", "Job-Delay": "86400"}  # to be kept, and not to be run


def main() -> int:
    """Measure both databases; give the exit code."""
    try:
        return report(_measure_both)
    except LoadError as error:
        print(f"bench.jobs: {error}", file=sys.stderr)
        return 1


def _measure_both() -> Iterator[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(Postgres(is_durable=True))
        for name, url in (("SQLite", ""), ("PostgreSQL", postgres.url)):
            with _serving(folder / name, url) as (server, engine):
                for connections in CONNECTIONS:
                    yield from _measure(name, server, engine, connections)


@contextmanager
def _serving(folder: Path, url: str) -> Iterator[tuple[Server, sa.Engine]]:
    """Serve with a store; give the server, and the store's engine."""
    settings = {"MODELYARD_STATE_FOLDER": str(folder), "MODELYARD_DATABASE_URL": url}
    given = {name: value for name, value in settings.items() if value}
    subprocess.run(
        [MODELYARD, "store", "upgrade"], env=os.environ | given, check=True, capture_output=True
    )
    engine = open_engine(url or f"sqlite:///{folder / 'modelyard.db'}")
    with Server(TRICK, settings=given) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server, engine
    engine.dispose()


def _measure(name: str, server: Server, engine: sa.Engine, connections: int) -> Iterator[Row]:
    bare, ours, costs = [], [], []
    process = psutil.Process(server.process.pid)
    for _ in range(ROUNDS):
        bare.append(_insert_bare(engine, connections))
        before = _processor_s(process)
        seen = run_load(server.url, BODY, connections=connections, seconds=SECONDS, headers=WANTED)
        if seen.failures:
            raise LoadError(f"{seen.failures} submissions failed: {seen.sample}")
        ours.append(seen.rate)
        costs.append((_processor_s(process) - before) / seen.answers * 1e6)
        print(f"{name}, {connections}: bare {bare[-1]:.0f}/s, jobs {ours[-1]:.0f}/s", flush=True)
    what = f"{name}, {connections} at a time"
    yield row(f"{what}: bare inserts /s", [median(bare)], "{:.0f}")
    yield row(f"{what}: jobs accepted /s", [median(ours)], "{:.0f}")
    yield row(f"{what}: the gateway's processor for one, µs", costs, "{:.0f}")
    ratios = [mine / its for mine, its in zip(ours, bare, strict=True)]
    yield row(f"{what}: accepted / bare", ratios, "{:.2f}", Limit("≥", LEAST))


def _processor_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _insert_bare(engine: sa.Engine, at_once: int) -> float:
    """Return how many jobs a second the database keeps, if that is all that is done."""
    began, count = time.monotonic(), 0
    while (spent_s := time.monotonic() - began) < SECONDS:
        now = time.time()
        jobs = [_job() for _ in range(at_once)]
        with begin(engine) as connection:
            insert_into(connection, jobs, now)
        count += at_once
    return count / spent_s


def _job() -> NewJob:
    now = time.time()
    uid = UIDS.new(now)
    return NewJob(
        uid=uid,
        id=uid,
        tenant="",
        owner="",
        key="",
        model="trick_model",
        version=None,
        form="json",
        door="",
        echo="",
        input=b'[{"nonce": 1}]',
        timeout_s=None,
        rank=0,
        created=now,
        ready_at=now + 86400,
        deadline=now + 7 * 86400,
        max_attempts=5,
        callback=None,
        idempotency_key=None,
        digest="0" * 64,
    )


if __name__ == "__main__":
    sys.exit(main())
