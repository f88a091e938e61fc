"""What is told of jobs, and their results as their callers' protocols have them."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Response

from modelyard.core.errors import Failure
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.core.objects import ObjectRef
from modelyard.core.v2 import pack
from modelyard.gateway.door import Door, Told
from modelyard.gateway.openapi import problem_responses
from modelyard.gateway.predict_door import PredictDoor
from modelyard.gateway.question import MEDIA_TYPES
from modelyard.gateway.v1 import V1Door
from modelyard.gateway.v2 import HEADER_LENGTH, V2Door
from modelyard.jobs.bulk.order import DOOR as BULK
from modelyard.jobs.job import Job, JobState, Leased, Place
from modelyard.jobs.starting import Around

_LEFT_OUT = ("content-length", "x-cache")


class JobError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed, as a problem document has it."""

    code: str
    detail: str
    where: str | None = None


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is now. Times are Unix time, in seconds.

    Attributes:
        id: Its name.
        state: queued, running, succeeded, failed, cancelled or expired.
        revision: Grows with each change.
        model_name: What is asked.
        model_version: The version that has answered, or the one that was asked for.
        owner: Whose it is.
        priority: The highest goes first.
        created: When it was accepted.
        ready_at: Not to be run before.
        deadline: Not to be begun after.
        started: When it was begun for the first time.
        finished: When it came to its end.
        attempts: How often it was begun.
        failures: How often that failed.
        max_attempts: How often it may.
        progress: How far it is, from 0 to 1, if the model says so.
        progress_message: What the model is at, if it says so.
        error: Why the last attempt failed.
        callback: Where its end is told.
        position: How many jobs of its model go before it; at least so many, if that is 1000.
        estimate_s: In how many seconds it should be begun, at the rate of the last minute.
    """

    id: str
    state: JobState
    revision: int
    model_name: str
    model_version: str | None
    owner: str
    priority: int
    created: float
    ready_at: float
    deadline: float
    started: float | None
    finished: float | None
    attempts: int
    failures: int
    max_attempts: int
    progress: float | None
    progress_message: str | None
    error: JobError | None
    callback: str | None
    position: int | None = None
    estimate_s: float | None = None


class JobList(msgspec.Struct, frozen=True):
    """Jobs, the newest first. ``next``: the ``after`` of those that follow; null if none do."""

    jobs: list[JobAnswer]
    next: str | None


def answer_of(job: Job, place: Place | None = None) -> JobAnswer:
    """Return what is told of a job. ``place``: where it stands, if it is queued."""
    before = None if place is None else place.before
    estimate_s = None
    if place is not None and place.is_exact and place.per_s:
        estimate_s = place.before / place.per_s
    return JobAnswer(
        id=job.id,
        state=job.state,
        revision=job.revision,
        model_name=job.model,
        model_version=job.answered_version or job.version,
        owner=job.owner,
        priority=-job.rank,
        created=job.created,
        ready_at=job.ready_at,
        deadline=job.deadline,
        started=job.started,
        finished=job.finished,
        attempts=job.attempts,
        failures=job.failures,
        max_attempts=job.max_attempts,
        progress=job.progress if job.state != "succeeded" else job.progress and 1.0,
        progress_message=job.progress_message,
        error=_error_of(job.error),
        callback=job.callback,
        position=before,
        estimate_s=estimate_s,
    )


def result_of(job: Job, output: bytes, request_id: str) -> Response:
    """Return the answer that the caller would have had at once."""
    if job.door == BULK:
        return Response(output, media_type="application/json")
    door = _door_of(job.door, job.model, job.form)
    target = Target(job.model, job.answered_version or "")
    told = Told(request_id, "bypass")
    head, body = door.answer(target, output, job.echo.encode(), told=told)
    lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:] if line)
    headers = {name: value for name, _, value in lines if name not in _LEFT_OUT}
    return Response(body, headers=headers)


def object_headers(found: ObjectRef, request_id: str) -> dict[str, str]:
    """Return the headers of an answer that is an object."""
    headers = {
        "content-type": found.media_type,
        "content-length": str(found.size),
        "x-request-id": request_id,
    }
    if found.json_bytes:
        headers[HEADER_LENGTH.decode()] = str(found.json_bytes)
    return headers


def around_of(job: Leased, target: Target) -> Around:
    """Return what stands around the predictions in an answer to a job."""
    door = _door_of(job.door, job.model, job.form)
    nothing = pack(b"") if job.form == "v2" else b""
    _, body = door.answer(target, nothing, job.echo.encode(), told=Told("", "bypass"))
    if job.form == "msgpack":
        return Around(body, b"", MEDIA_TYPES[job.form].decode())
    return Around(body[:-1], body[-1:], "application/json")


def _door_of(kind: str, model: str, form: Form) -> Door:
    if kind == "v2":
        return V2Door(model, None, json_bytes=None, coding=b"")
    return V1Door(model, None) if kind == "v1" else PredictDoor(form)


def _error_of(failure: Failure | None) -> JobError | None:
    return None if failure is None else JobError(failure.code, failure.detail, failure.where)


def json_answer(answer: msgspec.Struct) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(answer), media_type="application/json")


def answers(kind: type[msgspec.Struct], *codes: str) -> dict[str, Any]:
    """Return what the document says of a route that answers so, or with a problem of ``codes``."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    answer = {
        "description": (kind.__doc__ or "").splitlines()[0],
        "content": {"application/json": {"schema": schema}},
    }
    return {"response_class": Response, "responses": {200: answer, **problem_responses(*codes)}}
