"""Jobs over HTTP: looked at, waited for, cancelled, tried again, forgotten.

They are made by ``POST /predict`` and ``PUT /jobs/ID``, which are no pages (``submitting.py``). Who
may see one is said in ``job_access.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from modelyard.access.keyring import Principal
from modelyard.core.errors import Conflict, DeadlineExceeded, Unavailable, from_failure
from modelyard.core.names import NAME_PATTERN
from modelyard.core.objects import ObjectRef
from modelyard.gateway.delivery_pages import BODIES, add_callbacks
from modelyard.gateway.job_access import find_job, may_see, principal_of, tenant_of, unknown
from modelyard.gateway.job_answers import (
    JobAnswer,
    JobError,
    JobList,
    answer_of,
    answers,
    json_answer,
    object_headers,
    result_of,
)
from modelyard.gateway.openapi import add_bodies, problem_responses
from modelyard.gateway.question import request_id_of
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import Job, JobState, Question
from modelyard.jobs.objects import Objects

LONGEST_WAIT_S = 60.0
MOST_LISTED = 1000
ALIVE_S = 15.0  # a comment is sent as often, so that proxies keep the connection
_PAGES_LOOKED_AT = 20

Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)]


def add_job_schemas(document: dict[str, Any]) -> None:
    """Add what the operations of jobs refer to."""
    add_bodies(document, JobAnswer, JobError, JobList, *BODIES)


def make_jobs_router(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["jobs"])
    _add_reading(router, desk)
    _add_events(router, desk)
    _add_changing(router, desk)
    add_callbacks(router, desk)
    return router


def _add_reading(router: APIRouter, desk: Desk) -> None:
    @router.get("/jobs", summary="Jobs, the newest first", **answers(JobList, "unavailable"))
    async def list_jobs(
        request: Request,
        state: JobState | None = None,
        model: Annotated[str | None, Query(pattern=NAME_PATTERN.replace(r"\Z", "$"))] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
        after: Annotated[str | None, Query(max_length=32)] = None,
    ) -> Response:
        principal = principal_of(request)
        asked = Question(
            tenant=_listed(principal), state=state, model=model, before=after, most=limit
        )
        found = await _list(desk, asked, principal)
        following = found[-1].uid if len(found) == limit else None
        return json_answer(JobList([answer_of(job) for job in found], following))

    @router.get("/jobs/{id}", summary="A job", **answers(JobAnswer, "job_not_found", "unavailable"))
    async def get_job(id: str, request: Request, wait: Wait = 0) -> Response:  # noqa: A002
        job = await _waited(desk, await find_job(desk, id, request), wait)
        place = await desk.place_of(job) if job.state == "queued" else None
        return json_answer(answer_of(job, place))

    @router.get(
        "/jobs/{id}/result",
        summary="What the job has brought, as its request would have been answered at once",
        response_class=Response,
        responses={
            200: {"description": "The predictions, in the form of the request"},
            307: {"description": "They are large: a URL where they can be had for a while"},
            **problem_responses(
                "conflict", "job_not_found", "deadline_exceeded", "unavailable", "object_lost"
            ),
        },
    )
    async def get_result(id: str, request: Request, wait: Wait = 0) -> Response:  # noqa: A002
        job = await _waited(desk, await find_job(desk, id, request), wait)
        if job.is_open:
            raise Conflict(f"the job is {job.state}; wait for its end", retry_after_s=1)
        if job.state == "cancelled":
            raise Conflict("the job was cancelled, so it has no result")
        if job.state == "expired":
            raise DeadlineExceeded("the job's deadline passed before it had a result")
        if job.state == "failed":
            assert job.error is not None
            raise from_failure(job.error)
        result = await desk.result_of(job)
        if result is None:
            raise unknown()
        request_id = request_id_of(_given_id(request))
        if result.object is None:
            return result_of(job, result.output, request_id)
        return await _answer_object(desk.objects, result.object, request_id)


async def _answer_object(objects: Objects | None, found: ObjectRef, request_id: str) -> Response:
    """Lead the caller to a result, or pass it on: also one that needs headers of its own."""
    if objects is None:
        raise Unavailable("the job's result is an object, and this gateway has no job_files_url")
    link = await objects.link(found)
    if link is not None and not found.json_bytes:
        headers = {"location": link, "cache-control": "no-store", "x-request-id": request_id}
        return Response(status_code=status.HTTP_307_TEMPORARY_REDIRECT, headers=headers)
    return StreamingResponse(objects.read(found), headers=object_headers(found, request_id))


def _add_events(router: APIRouter, desk: Desk) -> None:
    @router.get(
        "/jobs/{id}/events",
        summary="The job at each of its changes until its end, as server-sent events",
        response_class=StreamingResponse,
        responses={
            200: {"description": "Events", "content": {"text/event-stream": {}}},
            204: {"description": "The last event of a job that is at its end was seen already"},
            **problem_responses("job_not_found", "unavailable"),
        },
    )
    async def get_events(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_job(desk, id, request)
        seen = request.headers.get("last-event-id", "")
        revision = int(seen) if seen.isdecimal() and len(seen) < 10 else 0
        if not job.is_open and job.revision <= revision:
            return Response(status_code=status.HTTP_204_NO_CONTENT)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        events = _events(desk, job, revision)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _events(desk: Desk, job: Job, seen: int) -> AsyncIterator[bytes]:
    """Yield events. Each is the job as it is then: what it passed in between is not told."""
    now: Job | None = job
    while now is not None:
        if now.revision > seen:
            seen = now.revision
            data = msgspec.json.encode(answer_of(now))
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (seen, now.state.encode(), data)
            if not now.is_open:
                return
        else:
            yield b": waiting\n\n"
        if desk.is_closing:
            return
        now = await desk.changed(now, ALIVE_S)


def _add_changing(router: APIRouter, desk: Desk) -> None:
    @router.post(
        "/jobs/{id}/cancel",
        summary="End a job; one that runs is told to stop",
        **answers(JobAnswer, "conflict", "job_not_found", "unavailable"),
    )
    async def cancel(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_job(desk, id, request)
        if not await desk.cancel(job):
            raise Conflict("the job has come to its end already")
        return json_answer(answer_of(await find_job(desk, id, request)))

    @router.post(
        "/jobs/{id}/retry",
        summary="Queue a job again that failed, expired or was cancelled",
        **answers(JobAnswer, "conflict", "job_not_found", "unavailable"),
    )
    async def retry(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_job(desk, id, request)
        if not await desk.retry(job):
            raise Conflict(f"the job is {job.state}: it did not fail, expire or be cancelled")
        return json_answer(answer_of(await find_job(desk, id, request)))

    @router.delete(
        "/jobs/{id}",
        summary="Forget a job that has come to its end, and its result",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=problem_responses("conflict", "job_not_found", "unavailable"),
    )
    async def delete(id: str, request: Request) -> None:  # noqa: A002
        job = await find_job(desk, id, request)
        if not await desk.remove(job):
            raise Conflict(f"the job is {job.state}: cancel it first")


async def _waited(desk: Desk, job: Job, wait_s: float) -> Job:
    """Return a job at its end, or when it has been waited for so long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while job.is_open and not desk.is_closing and (left_s := until - loop.time()) > 0:
        changed = await desk.changed(job, left_s)
        if changed is None:
            raise unknown()
        job = changed
    return job


async def _list(desk: Desk, asked: Question, principal: Principal | None) -> list[Job]:
    """Return those jobs that the caller may see."""
    found: list[Job] = []
    for _ in range(_PAGES_LOOKED_AT):
        page = await desk.listed(asked)
        found += [job for job in page if may_see(principal, job)]
        if len(page) < asked.most or len(found) >= asked.most:
            break
        asked = msgspec.structs.replace(asked, before=page[-1].uid)
    return found[: asked.most]


def _listed(principal: Principal | None) -> str | None:
    """Return whose jobs are listed; None for everybody's."""
    sees_all = principal is None or principal.scopes.is_admin
    return None if sees_all else tenant_of(principal)


def _given_id(request: Request) -> bytes | None:
    return dict(request.headers.raw).get(b"x-request-id")
