"""Files and batches as the OpenAI API tells of them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelyard.jobs.bulk.order import File, Order, Totals
from modelyard.jobs.job import Job, JobState

STATUS: dict[JobState, str] = {
    "queued": "validating",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""What the API calls the states of jobs."""

Kind = Literal["output", "errors"]


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"
    status_details: str | None = None
    expires_at: int | None = None


class Removed(msgspec.Struct, frozen=True):
    """A file that was removed."""

    id: str
    object: str = "file"
    deleted: bool = True


class Page(msgspec.Struct, frozen=True):
    """A page of a list."""

    data: list[Any]
    has_more: bool = False
    object: str = "list"


class Counts(msgspec.Struct, frozen=True):
    """Requests of a batch: how many there are, as far as that is known, and what came of them."""

    total: int
    completed: int
    failed: int


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /v1/batches``. ``completion_window`` is taken and means nothing."""

    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


class BatchObject(msgspec.Struct, frozen=True, kw_only=True):
    """A batch."""

    id: str
    endpoint: str
    input_file_id: str
    status: str
    created_at: int
    request_counts: Counts
    metadata: dict[str, str] | None
    output_file_id: str | None
    error_file_id: str | None
    errors: dict[str, Any] | None
    in_progress_at: int | None
    expires_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    model: str
    cancelling_at: int | None = None
    finalizing_at: int | None = None
    object: str = "batch"
    completion_window: str = "24h"


def file_object(file: File) -> FileObject:
    """Return what is told of a file that was sent."""
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created),
        filename=file.name,
        purpose=file.purpose,
    )


def output_object(job: Job, kind: Kind, size: int) -> FileObject:
    """Return what is told of a file that a batch has brought."""
    return FileObject(
        id=_output_id(job, kind),
        bytes=size,
        created_at=int(job.finished or job.created),
        filename=f"batch_{job.uid}_{kind}.jsonl",
        purpose="batch_output",
    )


def run_and_kind_of(file_id: str) -> tuple[str, Kind] | None:
    """Return the run that a file is of, and what it is; None if it is of none."""
    name, _, kind = file_id.removeprefix("file-").partition("-")
    if kind == "output":
        return name, "output"
    return (name, "errors") if kind == "errors" else None


def batch_object(job: Job, order: Order | None, totals: Totals | None) -> BatchObject:
    """Return what is told of a batch."""
    found = totals or Totals()
    is_done = job.state == "succeeded"
    finished = None if job.finished is None else int(job.finished)
    ended = {state: finished if job.state == state else None for state in STATUS}
    errors = None
    if job.state == "failed" and job.error is not None:
        told = {"code": job.error.code, "message": job.error.detail, "param": None, "line": None}
        errors = {"object": "list", "data": [told]}
    return BatchObject(
        id=f"batch_{job.uid}",
        endpoint="" if order is None else order.endpoint,
        input_file_id="" if order is None else order.input_id,
        status=STATUS[job.state],
        created_at=int(job.created),
        request_counts=Counts(found.rows, found.rows - found.failed, found.failed),
        metadata=None if order is None else order.metadata,
        output_file_id=_output_id(job, "output") if is_done and found.rows > found.failed else None,
        error_file_id=_output_id(job, "errors") if is_done and found.failed else None,
        errors=errors,
        in_progress_at=None if job.started is None else int(job.started),
        expires_at=int(job.deadline),
        completed_at=ended["succeeded"],
        failed_at=ended["failed"],
        expired_at=ended["expired"],
        cancelled_at=ended["cancelled"],
        model=job.model,
    )


def _output_id(job: Job, kind: Kind) -> str:
    return f"file-{job.uid}-{kind}"


BODIES = (FileObject, Removed, Page, BatchRequest, BatchObject)
