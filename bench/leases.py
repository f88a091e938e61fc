"""``python -m bench.leases``: how long it takes to lease jobs while a million of them wait.

The jobs are of a thousand owners, in SQLite and in PostgreSQL, and each lease takes as many as a
gateway takes at a time, of as many owners as there are jobs in it. The exit code is 1 if the median
lease takes 50 ms or more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa

from bench.report import report
from bench.rows import Limit, Row, row, tell
from modelyard.jobs.pump import LEASE_S, MOST_AT_ONCE
from modelyard.store.changing import begin
from modelyard.store.job_queue import JobQueue
from modelyard.store.schema import open_engine, upgrade
from tests.support.postgres import Postgres

MODEL = "trick_model"
OWNERS = 1000
LEASES = 20
MOST_MS = 50
COLUMNS = (
    "uid, id, tenant, owner, key, model, form, door, echo, state, revision, rank, created, "
    "ready_at, deadline, attempt, failures, max_attempts, digest, bytes"
)
ROW = (
    "{uid}, {uid}, {tenant}, 'owner', 'key', '{model}', 'json', '', '', 'queued', 1, 0, {now}, "
    "{now} - 1000 + i * 1e-6, {now} + 600000, 0, 0, 5, 'x', 3"
)
SOURCES = {
    "sqlite": (
        "printf('%032x', {0})",
        "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
        "SELECT i FROM n)",
    ),
    "postgresql": ("lpad(to_hex({0}), 32, '0')", "generate_series(0, {last}) AS n(i)"),
}
"""By dialect: a name made of a number, and the numbers."""


def main() -> int:
    """Measure; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.leases")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options = parser.parse_args()
    return report(lambda: _measure(options.jobs))


def _measure(count: int) -> Iterator[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(Postgres(is_durable=True))
        for name, url in (("SQLite", f"sqlite:///{folder}/jobs.db"), ("PostgreSQL", postgres.url)):
            engine = open_engine(url)
            upgrade(engine)
            tell(f"{name}: {count:,} jobs")
            _fill(engine, count)
            book, times = JobQueue(engine, wall_clock=time.time), []
            for _ in range(LEASES):
                began = time.perf_counter()
                leased = book.lease({MODEL: MOST_AT_ONCE}, holder="me", until=time.time() + LEASE_S)
                times.append((time.perf_counter() - began) * 1000)
                assert len({job.tenant for job in leased}) == MOST_AT_ONCE
            engine.dispose()
            what = f"{name}: {MOST_AT_ONCE} jobs of as many owners leased, {count:,} queued"
            yield row(what, times, "{:.1f} ms", Limit("<", MOST_MS))


def _fill(engine: sa.Engine, count: int) -> None:
    """Queue so many jobs."""
    made, numbers = SOURCES[engine.dialect.name]
    names = {"uid": made.format("i"), "tenant": made.format(f"(i - i / {OWNERS} * {OWNERS})")}
    values = ROW.format(**names, model=MODEL, now=repr(time.time()))
    with begin(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(
            f"INSERT INTO jobs ({COLUMNS}) SELECT {values} FROM {numbers.format(last=count - 1)}"
        )
        kind = "bytea" if engine.dialect.name == "postgresql" else "blob"
        connection.exec_driver_sql(
            f"INSERT INTO job_inputs (uid, content) SELECT uid, CAST('[1]' AS {kind}) FROM jobs"
        )


if __name__ == "__main__":
    sys.exit(main())
