"""Every route but ``POST /predict`` (that is in ``gateway/predict.py``), in plain FastAPI."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response, status

from modelyard.core.errors import ModelNotFound
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.schemas import (
    Health,
    ModelDetails,
    ModelList,
    ModelSummary,
    Readiness,
    Version,
    details_of,
    summary_of,
)


def make_router(
    *,
    catalog: Catalog,
    render_metrics: Callable[[], tuple[bytes, str]],
    verdict: Callable[[], str],
) -> APIRouter:
    """Give the routes.

    Args:
        catalog: What they tell of.
        render_metrics: Gives the metrics and their content type.
        verdict: Says "ready", or why requests should not come here.
    """
    router = APIRouter()

    @router.get("/models", tags=["models"], summary="All models")
    async def list_models() -> ModelList:
        names = dict.fromkeys(entry.target.name for entry in catalog.entries())
        return ModelList(
            models=[
                ModelSummary(
                    name=name,
                    versions=[Version(**summary_of(e, catalog)) for e in catalog.versions(name)],
                )
                for name in names
            ]
        )

    @router.get("/models/{name}", tags=["models"], summary="One model, with its schemas")
    async def get_model(name: str) -> ModelDetails:
        versions = catalog.versions(name)
        if not versions:
            raise ModelNotFound("no model has this name; GET /models lists them")
        return ModelDetails(name=name, versions=[details_of(e, catalog) for e in versions])

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
        if said != "ready":
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Readiness(status=said, models=states)

    @router.get("/metrics", tags=["operations"], summary="Metrics for Prometheus")
    async def metrics() -> Response:
        text, content_type = render_metrics()
        return Response(text, media_type=content_type)

    return router
