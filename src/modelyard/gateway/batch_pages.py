"""Bulk runs over HTTP: made of a file that is sent, or of one at a URL; looked at, and fetched.

They are jobs: ``job_access.py`` says who may see one, and ``/jobs`` tells of them as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from modelyard.access.gate import Gate
from modelyard.core.errors import (
    Conflict,
)
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.batch_answers import (
    BatchAnswer,
    BatchList,
    batch_answer,
)
from modelyard.gateway.batch_making import Model, add_making
from modelyard.gateway.job_access import find_job, may_see, principal_of, tenant_of, unknown
from modelyard.gateway.job_answers import answers, json_answer
from modelyard.gateway.openapi import problem_responses
from modelyard.jobs.bulk.desk import BulkDesk
from modelyard.jobs.bulk.order import DOOR, MEDIA_TYPES, Format
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import Job, JobState, Question

LONGEST_WAIT_S = 60.0
MOST_LISTED = 1000
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})", re.ASCII)
Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)]


def make_batches_router(
    bulk: BulkDesk, desk: Desk, *, catalog: Catalog, gate: Gate | None
) -> APIRouter:
    """Return the routes.

    Args:
        bulk: Takes files and runs.
        desk: Tells of jobs.
        catalog: Knows models.
        gate: Says who may ask; None if everybody may.
    """
    router = APIRouter(tags=["batches"])
    add_making(router, bulk, desk, catalog=catalog, gate=gate)
    _add_reading(router, bulk, desk)
    _add_fetching(router, bulk, desk)
    return router


def _add_reading(router: APIRouter, bulk: BulkDesk, desk: Desk) -> None:
    @router.get(
        "/batches", summary="Bulk runs, the newest first", **answers(BatchList, "unavailable")
    )
    async def list_batches(
        request: Request,
        state: JobState | None = None,
        model: Model = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
        after: Annotated[str | None, Query(max_length=32)] = None,
    ) -> Response:
        principal = principal_of(request)
        sees_all = principal is None or principal.scopes.is_admin
        question = Question(
            tenant=None if sees_all else tenant_of(principal),
            state=state,
            model=model,
            before=after,
            most=limit,
            door=DOOR,
        )
        page = await desk.listed(question)
        found = [job for job in page if may_see(principal, job)]
        totals = await bulk.totals_of(found)
        told = [batch_answer(job, totals.get(job.uid)) for job in found]
        return json_answer(BatchList(told, page[-1].uid if len(page) == limit else None))

    @router.get(
        "/batches/{id}",
        summary="A bulk run",
        **answers(BatchAnswer, "job_not_found", "unavailable"),
    )
    async def get_batch(id: str, request: Request, wait: Wait = 0) -> Response:  # noqa: A002
        job = await find_batch(desk, id, request)
        if wait and job.is_open:
            job = await desk.changed(job, wait) or job
        return json_answer(batch_answer(job, (await bulk.totals_of([job])).get(job.uid)))

    @router.post(
        "/batches/{id}/cancel",
        summary="End a bulk run",
        **answers(BatchAnswer, "conflict", "job_not_found", "unavailable"),
    )
    async def cancel_batch(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_batch(desk, id, request)
        if not await desk.cancel(job):
            raise Conflict(f"the run has {job.state} already")
        job = await find_batch(desk, id, request)
        return json_answer(batch_answer(job, (await bulk.totals_of([job])).get(job.uid)))


def _add_fetching(router: APIRouter, bulk: BulkDesk, desk: Desk) -> None:
    told: dict[int | str, dict[str, Any]] = {
        200: {"description": "The file"},
        206: {"description": "The part of it that `Range` asks for"},
        **problem_responses("conflict", "job_not_found", "unavailable"),
    }

    @router.get(
        "/batches/{id}/output",
        summary="The predictions of a bulk run that has succeeded",
        response_class=StreamingResponse,
        responses=told,
    )
    async def get_output(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_batch(desk, id, request)
        order = await bulk.order_of(job)
        kind: Format = "jsonl" if order is None else order.output_format
        return await answer_file(bulk, job, "output", MEDIA_TYPES[kind], request)

    @router.get(
        "/batches/{id}/errors",
        summary="The rows of a bulk run that have no prediction, as JSON Lines",
        response_class=StreamingResponse,
        responses=told,
    )
    async def get_errors(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_batch(desk, id, request)
        return await answer_file(bulk, job, "errors", MEDIA_TYPES["jsonl"], request)


async def find_batch(desk: Desk, job_id: str, request: Request) -> Job:
    """Return the caller's bulk run.

    Raises:
        JobNotFound: There is none that it may see.
    """
    job = await find_job(desk, job_id, request)
    if job.door != DOOR:
        raise unknown()
    return job


async def answer_file(
    bulk: BulkDesk, job: Job, what: str, media_type: str, request: Request
) -> Response:
    """Return what a run has brought, or the part that is asked for.

    Raises:
        Conflict: It has brought nothing.
    """
    if job.state != "succeeded":
        why = f": {job.error.detail}" if job.error is not None else ""
        after = 1 if job.is_open else None
        raise Conflict(f"the run is {job.state}{why}", retry_after_s=after)
    name = f"runs/{job.uid}/{what}"
    size = await bulk.size(name)
    if size is None:
        raise unknown()
    first, end = 0, size
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if "if-range" in request.headers:
        found = None  # files have no validator that could be the one meant (RFC 9110, 13.1.5)
    if found is not None and found[2] and int(found[2]) < int(found[1]):
        found = None  # no range, so none is meant (RFC 9110, 14.1.1)
    if found is not None:
        first = int(found[1])
        if first > size:  # at the end there is nothing, which who goes on there takes
            over = status.HTTP_416_RANGE_NOT_SATISFIABLE
            return Response(status_code=over, headers={"content-range": f"bytes */{size}"})
        end = min(size, int(found[2]) + 1) if found[2] else size
    headers = {"content-length": str(max(0, end - first)), "accept-ranges": "bytes"}
    code = status.HTTP_200_OK
    if found is not None:
        code = status.HTTP_206_PARTIAL_CONTENT
        headers["content-range"] = f"bytes {first}-{max(first, end) - 1}/{size}"
    body: AsyncIterator[bytes] = bulk.read(name, first, end)
    return StreamingResponse(body, code, headers=headers, media_type=media_type)
