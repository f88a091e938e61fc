"""What is told of bulk runs."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from modelyard.gateway.job_answers import JobError
from modelyard.gateway.openapi import add_bodies
from modelyard.jobs.bulk.order import Format, RowFailure, Totals
from modelyard.jobs.job import Job, JobState


class Rows(msgspec.Struct, frozen=True):
    """How many rows are done, of those how many have no prediction, and how many there are in all,
    which is known at the end.
    """

    done: int
    failed: int
    total: int | None


class Cost(msgspec.Struct, frozen=True):
    """What a run has cost: predictions, and seconds of the model's time."""

    instances: int
    model_s: float


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A bulk run as it is now. Times are Unix time, in seconds.

    Attributes:
        id: Its name.
        state: queued, running, succeeded, failed, cancelled or expired.
        model_name: What is asked.
        model_version: Which version: the same for all rows.
        owner: Whose it is.
        created: When it was accepted.
        started: When it was begun for the first time.
        finished: When it came to its end.
        rows: How many are done, and have failed.
        progress: How far it is in the input, from 0 to 1; null if that is not known.
        rows_per_s: Of late.
        remaining_s: In how many seconds it should be finished, at the rate until now.
        cost: What it has cost.
        error: Why it failed, or was interrupted last.
    """

    id: str
    state: JobState
    model_name: str
    model_version: str | None
    owner: str
    created: float
    started: float | None
    finished: float | None
    rows: Rows
    progress: float | None
    rows_per_s: float | None
    remaining_s: float | None
    cost: Cost
    error: JobError | None


class BatchList(msgspec.Struct, frozen=True):
    """Bulk runs, the newest first. ``next``: the ``after`` of those that follow; null for none."""

    batches: list[BatchAnswer]
    next: str | None


class BatchQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bulk run of an input that is there already.

    Attributes:
        model_name: What is asked.
        model_version: A version or an alias; the one that is the default now unless given.
        input_url: Where the input is.
        format: Of it; what its name says unless given.
        output_format: Of the output; that of the input unless given.
        output_url: Where the output is put as well.
        columns: Which columns a model of lists takes, in this order.
        keep: Columns that the output repeats.
        id: A name of your own.
    """

    model_name: str
    input_url: str
    model_version: str | None = None
    format: Format | None = None
    output_format: Format | None = None
    output_url: str = ""
    columns: list[str] = []
    keep: list[str] = []
    id: str = ""


def batch_answer(job: Job, totals: Totals | None) -> BatchAnswer:
    """Return what is told of a run."""
    found = totals or Totals()
    is_over = not job.is_open
    progress = 1.0 if job.state == "succeeded" else job.progress
    remaining_s = None
    if not is_over and progress and found.rows and found.rows_per_s:
        remaining_s = found.rows * (1 - progress) / progress / found.rows_per_s
    rate = found.rows_per_s or None
    if is_over:
        spent_s = (job.finished or time.time()) - (job.started or job.created)
        rate = found.rows / spent_s if spent_s > 0 and found.rows else None
    error = job.error
    return BatchAnswer(
        id=job.id,
        state=job.state,
        model_name=job.model,
        model_version=job.answered_version or job.version,
        owner=job.owner,
        created=job.created,
        started=job.started,
        finished=job.finished,
        rows=Rows(found.rows, found.failed, found.rows if job.state == "succeeded" else None),
        progress=progress,
        rows_per_s=rate,
        remaining_s=remaining_s,
        cost=Cost(found.rows - found.failed, found.model_s),
        error=None if error is None else JobError(error.code, error.detail, error.where),
    )


BODIES = (BatchAnswer, BatchList, BatchQuestion, RowFailure)


def add_batch_schemas(document: dict[str, Any]) -> None:
    """Add what the operations of bulk runs refer to."""
    add_bodies(document, *BODIES)
