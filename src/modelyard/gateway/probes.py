"""Health, readiness and metrics: all that a worker tells, and what a gateway tells as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import PlainTextResponse

from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway.rules import seen
from modelyard.gateway.schemas import Health, Readiness
from modelyard.gateway.types import RenderMetrics

READY, DEGRADED = "ready", "degraded"
"""Responses of ``/readyz``. The second: ready, but some model has failed."""

_NOT_READY = {
    "content": {
        "application/json": {
            "example": {"status": "starting", "models": {"fast_iris_model/1": "starting"}}
        }
    }
}


class MetricsResponse(PlainTextResponse):
    """Prometheus' text format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def make_probes_router(
    *,
    catalog: Catalog,
    render_metrics: RenderMetrics,
    verdict: Callable[[], Verdict],
) -> APIRouter:
    """Return the routes; see ``make_router``.

    Args:
        catalog: What they tell of.
        render_metrics: Returns the metrics and their content type.
        verdict: Says whether requests should come here.
    """
    router = APIRouter()

    @router.get("/healthz", tags=["operations"], summary="Is the process alive?")
    async def health() -> Health:
        return Health()

    @router.get(
        "/readyz",
        tags=["operations"],
        summary="Should requests come here?",
        responses={503: {"model": Readiness, "description": "No, and why", **_NOT_READY}},
    )
    async def readiness(request: Request, response: Response) -> Readiness:
        entries, said = catalog.entries(), verdict()
        if not said.is_ready:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        has_failed = any(entry.announcement.state == "failed" for entry in entries)
        shown = DEGRADED if said.status == READY and has_failed else said.status
        return Readiness(
            status=shown,
            models={str(e.target): _state_of(e) for e in seen(request, entries)},
        )

    @router.get(
        "/metrics",
        tags=["operations"],
        summary="Metrics for Prometheus",
        response_class=MetricsResponse,
    )
    async def metrics(request: Request) -> Response:
        # In a thread: with hundreds of models it would block the loop for too long.
        accept = request.headers.get("accept", "")
        text, content_type = await asyncio.to_thread(render_metrics, accept)
        return Response(text, media_type=content_type)

    return router


def _state_of(entry: Entry) -> str:
    known = entry.announcement
    return known.state + (f": {known.reason}" if known.reason else "")
