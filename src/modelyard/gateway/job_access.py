"""Whose jobs a caller may see: its owner's, as far as its key may ask the model; and ``admin`` all.

For all others a job is not there.
"""

from __future__ import annotations

from fastapi import Request

from modelyard.access.keyring import Principal
from modelyard.core.errors import JobNotFound
from modelyard.gateway.rules import PRINCIPAL
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import Job


def principal_of(request: Request) -> Principal | None:
    """Return who asks; None if nobody is known here."""
    found: Principal | None = request.scope.get(PRINCIPAL)
    return found


def tenant_of(principal: Principal | None) -> str:
    """Return whose jobs a caller's are."""
    return "" if principal is None else principal.tenant.hex()


async def find_job(desk: Desk, job_id: str, request: Request) -> Job:
    """Return the caller's job.

    Raises:
        JobNotFound: There is none that it may see.
    """
    principal = principal_of(request)
    job = await desk.find(job_id, None if principal is None else tenant_of(principal))
    if job is None and principal is not None and principal.scopes.is_admin:
        job = await desk.find(job_id, None)
    if job is None or not may_see(principal, job):
        raise unknown()
    return job


def may_see(principal: Principal | None, job: Job) -> bool:
    """Return whether a caller may see a job."""
    if principal is None or principal.scopes.is_admin:
        return True
    return tenant_of(principal) == job.tenant and principal.scopes.may_predict(job.model)


def unknown() -> JobNotFound:
    """Return the error of a job that is not there, or not for this caller."""
    return JobNotFound("there is no such job; GET /jobs lists those that you may see")
