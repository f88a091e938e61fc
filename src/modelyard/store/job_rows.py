"""Between jobs and the rows of their table."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from modelyard.core.errors import Failure
from modelyard.jobs.job import Ending, Job, JobState, Leased, NewJob
from modelyard.store.tables import JOB_INPUTS, JOBS

DELAYED = "delayed"
"""The state, here, of a job that is queued and not to be run yet. It is in no index of those that
may be, so that any number of them costs nothing."""

_KEPT_AS_THEY_ARE = [
    field.name for field in msgspec.structs.fields(NewJob) if field.name != "input"
]
_READ_AS_THEY_ARE = [
    field.name
    for field in msgspec.structs.fields(Job)
    if field.name not in ("attempts", "error", "state")
]
_LEASED = [
    field.name for field in msgspec.structs.fields(Leased) if field.name not in ("input", "attempt")
]

OF_JOB = [column for column in JOBS.c if column.name not in ("bytes", "digest", "key")]
OF_LEASE = [*(JOBS.c[name] for name in _LEASED), JOBS.c.attempt]


def row_of(job: NewJob, now: float) -> dict[str, Any]:
    """Return the row of a new job."""
    row = {name: getattr(job, name) for name in _KEPT_AS_THEY_ARE}
    state = DELAYED if job.ready_at > now else "queued"
    return row | {
        **{"state": state, "revision": 1, "attempt": 0, "failures": 0},
        "bytes": len(job.input),
    }


def input_of(job: NewJob) -> dict[str, Any]:
    """Return the row of its input."""
    return {"uid": job.uid, "content": job.input}


def job_of(row: sa.Row[Any]) -> Job:
    """Return the job of a row."""
    fields = {name: getattr(row, name) for name in _READ_AS_THEY_ARE}
    error = None if row.error is None else msgspec.json.decode(row.error, type=Failure)
    return Job(**fields, attempts=row.attempt, error=error, state=shown_state(row.state))


def leased_of(row: sa.Row[Any], content: bytes) -> Leased:
    """Return what is to be run of a row. ``content``: its input."""
    fields = {name: getattr(row, name) for name in _LEASED}
    return Leased(**fields, attempt=row.attempt, input=content)


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
        "size": len(ending.output or b""),
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

INPUTS = sa.select(JOB_INPUTS.c.uid, JOB_INPUTS.c.content)
