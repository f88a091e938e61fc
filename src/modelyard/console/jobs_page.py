"""The page of jobs: those that a caller may see, the newest first, with how far they are and why
they failed.
"""

from __future__ import annotations

import asyncio
from typing import get_args

from fastapi import APIRouter, Request, Response

from modelyard.console.rendering import Rendering
from modelyard.core.errors import InvalidInput
from modelyard.gateway.job_access import may_see, principal_of, tenant_of
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import JobState, Question

STATES: tuple[JobState, ...] = get_args(JobState)
MOST = 100  # on a page


def add_jobs(router: APIRouter, rendering: Rendering, desk: Desk) -> None:
    """Add the route."""

    @router.get("/jobs")
    async def show(request: Request, state: str = "", model: str = "", after: str = "") -> Response:
        caller, principal = rendering.caller_of(request), principal_of(request)
        chosen = next((one for one in STATES if one == state), None)
        if state and chosen is None:
            raise InvalidInput(f"jobs are {', '.join(STATES)}, and not {state[:20]!r}")
        question = Question(
            tenant=None if caller.is_admin else tenant_of(principal),
            state=chosen,
            model=model or None,
            before=after or None,
            most=MOST,
        )
        found = await desk.listed(question)
        facts = {
            "jobs": [job for job in found if may_see(principal, job)],
            "states": STATES,
            "state": state,
            "model": model,
            "following": found[-1].uid if len(found) == MOST else "",
        }
        text = await asyncio.to_thread(rendering.text, "jobs.html", request, caller, **facts)
        return rendering.respond(text, request, caller)
