"""Between jobs and the rows of their table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from modelyard.core.errors import Failure
from modelyard.core.objects import ObjectRef
from modelyard.jobs.job import Ending, Job, JobState, Leased, NewJob
from modelyard.store.tables import JOB_INPUTS, JOBS

DELAYED = "delayed"
"""The state, here, of a job that is queued and not to be run yet. It is in no index of those that
may be, so that any number of them costs nothing."""

_KEPT = [
    field.name for field in msgspec.structs.fields(NewJob) if field.name not in ("input", "object")
]
_values_of = attrgetter(*_KEPT)
_SIZES = (64, 16, 4, 1)  # of statements, so that there are few of them
_OF_INPUT = ("uid", "content", "object")
_COLUMNS = (*_KEPT, "state", "revision", "attempt", "failures", "bytes")
_READ_AS_THEY_ARE = [
    field.name
    for field in msgspec.structs.fields(Job)
    if field.name not in ("attempts", "error", "state")
]
_LEASED = [
    field.name
    for field in msgspec.structs.fields(Leased)
    if field.name not in ("input", "object", "attempt")
]

OF_JOB = [column for column in JOBS.c if column.name not in ("bytes", "digest", "key")]
OF_LEASE = [*(JOBS.c[name] for name in _LEASED), JOBS.c.attempt]


def insert_into(connection: sa.Connection, jobs: Sequence[NewJob], now: float) -> None:
    """Add new jobs and their inputs, in the driver's own words: the library's are half of what a
    row costs.
    """
    if connection.dialect.name != "sqlite":
        rows = [_row_of(job, now) for job in jobs]
        connection.exec_driver_sql(_inserting("jobs", _COLUMNS, "%s"), rows)
        inputs = [(job.uid, job.input, packed(job.object)) for job in jobs]
        connection.exec_driver_sql(_inserting("job_inputs", _OF_INPUT, "%s"), inputs)
        return
    # Many rows in one statement: its driver lets go of the interpreter's lock, and waits for it
    # again, with each.
    first = 0
    while left := len(jobs) - first:
        size = next(size for size in _SIZES if size <= left)
        some = jobs[first : first + size]
        first += size
        values = tuple(value for job in some for value in _row_of(job, now))
        connection.exec_driver_sql(_inserting("jobs", _COLUMNS, "?", size), values)
        contents = tuple(
            value for job in some for value in (job.uid, job.input, packed(job.object))
        )
        connection.exec_driver_sql(_inserting("job_inputs", _OF_INPUT, "?", size), contents)


def _row_of(job: NewJob, now: float) -> tuple[Any, ...]:
    state = "queued" if job.ready_at <= now else DELAYED
    size = len(job.input) if job.object is None else job.object.size
    return (*_values_of(job), state, 1, 0, 0, size)


@cache
def _inserting(table: str, columns: tuple[str, ...], mark: str, rows: int = 1) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES {', '.join([row] * rows)}"  # noqa: S608


def job_of(row: sa.Row[Any]) -> Job:
    """Return the job of a row."""
    fields = {name: getattr(row, name) for name in _READ_AS_THEY_ARE}
    error = None if row.error is None else msgspec.json.decode(row.error, type=Failure)
    return Job(**fields, attempts=row.attempt, error=error, state=shown_state(row.state))


def packed(found: ObjectRef | None) -> bytes | None:
    """Return an object as it stands in a row."""
    return None if found is None else msgspec.msgpack.encode(found)


def object_in(found: bytes | None) -> ObjectRef | None:
    """Return the object that stands in a row."""
    return None if found is None else msgspec.msgpack.decode(found, type=ObjectRef)


def leased_of(row: sa.Row[Any], input_: sa.Row[Any]) -> Leased:
    """Return what is to be run of a row. ``input_``: the row of its input."""
    fields = {name: getattr(row, name) for name in _LEASED}
    found = object_in(input_.object)
    return Leased(**fields, attempt=row.attempt, input=input_.content, object=found)


def shown_state(state: str) -> JobState:
    """Return the state that a caller sees."""
    found: JobState = "queued" if state == DELAYED else state  # type: ignore[assignment]
    return found


def ended_row(ending: Ending, now: float) -> dict[str, Any]:
    """Return the values, for ``ENDED``, of a job after an attempt."""
    is_over = ending.state != "queued"
    state = ending.state if is_over or ending.ready_at <= now else DELAYED
    return {
        "of": ending.uid,
        "new_state": state,
        "new_ready_at": ending.ready_at,
        "end": now if is_over else None,
        "by": ending.version,
        "why": None if ending.error is None else msgspec.json.encode(ending.error).decode(),
        "failed": int(ending.is_failure),
        "size": len(ending.output or b"") if ending.object is None else ending.object.size,
    }


_READY_AT = sa.bindparam("new_ready_at", type_=sa.Double)
ENDED = (
    JOBS.update()
    .where(JOBS.c.uid == sa.bindparam("of"))
    .values(
        state=sa.bindparam("new_state"),
        revision=JOBS.c.revision + 1,
        ready_at=sa.case((JOBS.c.ready_at < _READY_AT, _READY_AT), else_=JOBS.c.ready_at),
        finished=sa.bindparam("end"),
        answered_version=sa.bindparam("by"),
        error=sa.bindparam("why"),
        failures=JOBS.c.failures + sa.bindparam("failed"),
        bytes=JOBS.c.bytes + sa.bindparam("size"),
        lease_until=None,
        holder=None,
    )
)
"""Keeps what came of attempts."""

PROGRESSED = (
    JOBS.update()
    .where(
        JOBS.c.uid == sa.bindparam("job"),
        JOBS.c.attempt == sa.bindparam("its_attempt"),
        JOBS.c.state == "running",
    )
    .values(
        progress=sa.bindparam("fraction"),
        progress_message=sa.bindparam("message"),
        revision=JOBS.c.revision + 1,
    )
)
"""Keeps how far attempts are."""

INPUTS = sa.select(JOB_INPUTS)
