"""The pages of jobs: those that a caller may see, the newest first, and one of them, with why it
failed: what its model raised, and the first rows of a bulk run that have no prediction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import get_args

import msgspec
from fastapi import APIRouter, Request, Response

from modelyard.console.faults_page import KINDS, faults_of
from modelyard.console.interfaces import Sources
from modelyard.console.paging import MOST
from modelyard.console.rendering import Rendering
from modelyard.core.errors import InvalidInput
from modelyard.gateway.job_access import find_job, may_see, principal_of, tenant_of
from modelyard.jobs.bulk.order import DOOR as BULK
from modelyard.jobs.bulk.order import RowFailure, Totals
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import Job, JobState, Question

STATES: tuple[JobState, ...] = get_args(JobState)
MOST_ROWS, MOST_ROW_BYTES = 20, 100_000  # of those that failed


def add_jobs(router: APIRouter, sources: Sources, rendering: Rendering, desk: Desk) -> None:
    """Add the routes."""

    @router.get("/jobs")
    async def show_all(
        request: Request, state: str = "", model: str = "", kind: str = "", after: str = ""
    ) -> Response:
        caller, principal = rendering.caller_of(request), principal_of(request)
        chosen = next((one for one in STATES if one == state), None)
        if state and chosen is None:
            raise InvalidInput(f"jobs are {', '.join(STATES)}, and not {state[:20]!r}")
        question = Question(
            tenant=None if caller.is_admin else tenant_of(principal),
            state=chosen,
            model=model.strip() or None,
            before=after or None,
            most=MOST,
            door=BULK if kind == BULK else None,
        )
        found = await desk.listed(question)
        jobs = [job for job in found if may_see(principal, job)]
        facts = {
            "jobs": jobs,
            "totals": await _totals_of(sources, jobs),
            "states": STATES,
            "state": state,
            "model": model.strip(),
            "kind": BULK if kind == BULK else "",
            "after": after,
            "following": found[-1].uid if len(found) == MOST else "",
        }
        text = await asyncio.to_thread(rendering.text, "jobs.html", request, caller, **facts)
        return rendering.respond(text, request, caller)

    @router.get("/jobs/{id}")
    async def show(request: Request, id: str) -> Response:  # noqa: A002
        caller = rendering.caller_of(request)
        job = await find_job(desk, id, request)
        faults = [one for one in faults_of(sources, caller) if job.uid in one.requests]
        facts = {
            "job": job,
            "totals": (await _totals_of(sources, [job])).get(job.uid),
            "rows": await _failed_rows(sources, job),
            "faults": faults,
            "kinds": KINDS,
            "is_served": bool(sources.catalog.versions(job.model)),
            "url": str(request.base_url).rstrip("/"),
        }
        text = await asyncio.to_thread(rendering.text, "job.html", request, caller, **facts)
        return rendering.respond(text, request, caller)


async def _totals_of(sources: Sources, jobs: Sequence[Job]) -> dict[str, Totals]:
    """Return what has come of those that are bulk runs, by uid."""
    runs = [job for job in jobs if job.door == BULK]
    return await sources.bulk.totals_of(runs) if sources.bulk and runs else {}


async def _failed_rows(sources: Sources, job: Job) -> list[RowFailure]:
    """Return the first rows of a bulk run that has succeeded without them."""
    bulk, name = sources.bulk, f"runs/{job.uid}/errors"
    if bulk is None or job.door != BULK or job.state != "succeeded":
        return []
    size = await bulk.size(name)
    if not size:
        return []
    pieces = [piece async for piece in bulk.read(name, 0, min(size, MOST_ROW_BYTES))]
    *lines, _ = b"".join(pieces).split(b"\n")  # the last one may be cut off
    return [msgspec.json.decode(line, type=RowFailure) for line in lines[:MOST_ROWS]]
