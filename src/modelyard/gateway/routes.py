"""Every route but ``POST /predict`` (that is in ``gateway/predict.py``), in plain FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
from fastapi import APIRouter, Response, status

from modelyard.core.demand import Demand
from modelyard.core.errors import ModelNotFound, VersionNotFound
from modelyard.core.messages import Member
from modelyard.core.names import Target
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.schemas import (
    DemandAnswer,
    Health,
    ModelDetails,
    ModelList,
    ModelSummary,
    Readiness,
    Version,
    details_of,
    summary_of,
)


class Workers(Protocol):
    """What a gateway of a cluster knows of the workers of a target."""

    def members(self, target: Target) -> list[Member]:
        """Give them one by one, those that serve first."""
        ...

    def queued(self, target: Target) -> int | None:
        """Give how many bundles wait for them in the broker, if it tells."""
        ...

    def demand(self, target: Target) -> Demand:
        """Give how many runners this gateway's own work asks for."""
        ...


def make_router(
    *,
    catalog: Catalog,
    render_metrics: Callable[[], tuple[bytes, str]],
    verdict: Callable[[], Verdict],
    workers: Workers | None,
) -> APIRouter:
    """Give the routes.

    Args:
        catalog: What they tell of.
        render_metrics: Gives the metrics and their content type.
        verdict: Says whether requests should come here.
        workers: Tells of the workers; None where there are none.
    """
    router = APIRouter()

    @router.get("/models", tags=["models"], summary="All models")
    async def list_models() -> ModelList:
        names = dict.fromkeys(entry.target.name for entry in catalog.entries())
        return ModelList(
            models=[
                ModelSummary(
                    name=name,
                    versions=[
                        Version(**summary_of(e, catalog, workers)) for e in catalog.versions(name)
                    ],
                )
                for name in names
            ]
        )

    @router.get("/models/{name}", tags=["models"], summary="One model, with its schemas")
    async def get_model(name: str) -> ModelDetails:
        versions = catalog.versions(name)
        if not versions:
            raise ModelNotFound("no model has this name; GET /models lists them")
        return ModelDetails(name=name, versions=[details_of(e, catalog, workers) for e in versions])

    if workers is not None:

        @router.get(
            "/models/{name}/versions/{version}/demand",
            tags=["operations"],
            summary="Runners that this gateway's own work for a version asks for",
        )
        async def get_demand(name: str, version: str) -> DemandAnswer:
            target = Target(name, version)
            if catalog.find(target) is None:
                raise VersionNotFound("no such model and version; GET /models lists them")
            return DemandAnswer(**msgspec.structs.asdict(workers.demand(target)))

    @router.get("/healthz", tags=["operations"], summary="Is the process alive?")
    async def health() -> Health:
        return Health()

    @router.get("/readyz", tags=["operations"], summary="Should requests come here?")
    async def readiness(response: Response) -> Readiness:
        states = {}
        for entry in catalog.entries():
            known = entry.announcement
            states[str(entry.target)] = known.state + (f": {known.reason}" if known.reason else "")
        said = verdict()
        if not said.is_ready:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Readiness(status=said.status, models=states)

    @router.get("/metrics", tags=["operations"], summary="Metrics for Prometheus")
    async def metrics() -> Response:
        # In a thread: with hundreds of models it takes longer than the loop should be held.
        text, content_type = await asyncio.to_thread(render_metrics)
        return Response(text, media_type=content_type)

    return router
