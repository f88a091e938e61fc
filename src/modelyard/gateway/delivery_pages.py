"""Callbacks over HTTP: what became of them, and the secrets with which they are checked."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response, status

from modelyard.core.errors import JobNotFound
from modelyard.gateway.job_access import find_job, principal_of, tenant_of
from modelyard.gateway.job_answers import answers, json_answer
from modelyard.gateway.openapi import problem_responses
from modelyard.jobs.delivery import Delivery
from modelyard.jobs.desk import Desk


class DeliveryList(msgspec.Struct, frozen=True):
    """The callbacks that tell of a job, the first first."""

    deliveries: list[Delivery]


class CallbackSecrets(msgspec.Struct, frozen=True):
    """The secrets with which the caller checks callbacks; a callback is signed with each."""

    secrets: list[str]


BODIES = (Delivery, DeliveryList, CallbackSecrets)


def add_callbacks(router: APIRouter, desk: Desk) -> None:
    """Add the routes."""

    @router.get(
        "/jobs/{id}/deliveries",
        summary="The callbacks that tell of a job",
        **answers(DeliveryList, "job_not_found", "unavailable"),
    )
    async def list_deliveries(id: str, request: Request) -> Response:  # noqa: A002
        job = await find_job(desk, id, request)
        return json_answer(DeliveryList(await desk.deliveries_of(job)))

    @router.post(
        "/jobs/{id}/deliveries/{delivery}/replay",
        summary="Send a callback again",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=problem_responses("job_not_found", "unavailable"),
    )
    async def replay(id: str, delivery: str, request: Request) -> None:  # noqa: A002
        job = await find_job(desk, id, request)
        found = [one for one in await desk.deliveries_of(job) if one.id == delivery]
        if not found:
            raise JobNotFound("the job has no such delivery; GET /jobs/ID/deliveries lists them")
        await desk.replay(job, found[0])

    @router.get(
        "/callbacks/secrets",
        summary="The secrets with which your callbacks are checked",
        **answers(CallbackSecrets),
    )
    async def get_secrets(request: Request) -> Response:
        return json_answer(CallbackSecrets(desk.secrets_of(tenant_of(principal_of(request)))))
