"""Every route but ``POST /predict`` (that is in ``gateway/predict.py``), in plain FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response, status
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from modelyard.core.errors import ModelNotFound
from modelyard.dispatch.catalog import Catalog, Entry
from modelyard.gateway.openapi import problem_responses
from modelyard.gateway.schemas import (
    Health,
    Links,
    ModelDetails,
    ModelList,
    ModelSummary,
    Question,
    Readiness,
    Version,
    details_of,
    summary_of,
)

READY, DEGRADED = "ready", "degraded"
"""The verdicts under which requests should come here."""

_NOT_READY = {
    "content": {
        "application/json": {
            "example": {"status": "starting", "models": {"fast_iris_model/1": "starting"}}
        }
    }
}

_START_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Modelyard</title>
<style>
body {{ font: 1rem/1.6 system-ui; margin: 3rem auto; max-width: 40rem; padding: 0 1rem }}
</style>
<h1>Modelyard {version}</h1>
<p>One HTTP API in front of many machine-learning models.
<ul>
<li><a href="docs">Documentation</a>, with every model's schemas, and a form to try them
<li><a href="models">Models</a> and their state
<li><a href="readyz">Readiness</a> and <a href="metrics">metrics</a>
</ul>
</html>
"""


class MetricsResponse(PlainTextResponse):
    """Prometheus' text format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def make_router(
    *,
    catalog: Catalog,
    version: str,
    render_metrics: Callable[[], tuple[bytes, str]],
    verdict: Callable[[], str],
) -> APIRouter:
    """Give the routes.

    Args:
        catalog: What they tell of.
        version: Of Modelyard.
        render_metrics: Gives the metrics and their content type.
        verdict: Says "ready" or "degraded", or why requests should not come here.
    """
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def start(accept: Annotated[str, Header()] = "") -> Response:
        if "text/html" in accept:
            return HTMLResponse(_START_PAGE.format(version=version))
        return JSONResponse(Links(version=version).model_dump())

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

    @router.get(
        "/models/{name}",
        tags=["models"],
        summary="One model, with its schemas",
        responses=problem_responses("model_not_found"),
    )
    async def get_model(name: str) -> ModelDetails:
        versions = catalog.versions(name)
        if not versions:
            raise ModelNotFound("no model has this name; GET /models lists them")
        return ModelDetails(name=name, versions=[details_of(e, catalog) for e in versions])

    @router.get(
        "/models/{name}/example",
        tags=["models"],
        summary="A request that the model answers: a body for POST /predict",
        response_model=Question,
        responses=problem_responses("model_not_found"),
    )
    async def get_example(name: str) -> Response:
        entry = catalog.resolve(name, None)
        schema = entry.announcement.schema
        if schema is None or schema.example == b"null":
            raise HTTPException(404, f"{entry.target} has no example, or has not been loaded yet")
        body = b'{"model_name":"%b","input_data":%b}' % (name.encode(), schema.example)
        return Response(body, media_type="application/json")

    @router.get("/healthz", tags=["operations"], summary="Is the process alive?")
    async def health() -> Health:
        return Health()

    @router.get(
        "/readyz",
        tags=["operations"],
        summary="Should requests come here?",
        responses={503: {"model": Readiness, "description": "No, and why", **_NOT_READY}},
    )
    async def readiness(response: Response) -> Readiness:
        entries, said = catalog.entries(), verdict()
        if said == READY and any(entry.announcement.state == "failed" for entry in entries):
            said = DEGRADED
        if said not in (READY, DEGRADED):
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Readiness(status=said, models={str(e.target): _state_of(e) for e in entries})

    @router.get(
        "/metrics",
        tags=["operations"],
        summary="Metrics for Prometheus",
        response_class=MetricsResponse,
    )
    async def metrics() -> Response:
        text, content_type = render_metrics()
        return Response(text, media_type=content_type)

    return router


def _state_of(entry: Entry) -> str:
    known = entry.announcement
    return known.state + (f": {known.reason}" if known.reason else "")
