"""Every route but ``POST /predict`` (that is in ``gateway/predict.py``), in plain FastAPI."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec
from fastapi import APIRouter, Header, HTTPException, Request, Response, status
from fastapi.responses import HTMLResponse, JSONResponse

from modelyard.core.demand import Demand
from modelyard.core.errors import NO_MODEL, ModelNotFound, VersionNotFound
from modelyard.core.messages import Member
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.openapi import problem_responses
from modelyard.gateway.rules import seen
from modelyard.gateway.schemas import (
    DemandAnswer,
    Links,
    ModelDetails,
    ModelList,
    ModelSummary,
    Question,
    Version,
    details_of,
    summary_of,
)

_START_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Modelyard</title>
<style>
body {{ font: 1rem/1.6 system-ui; margin: 3rem auto; max-width: 40rem; padding: 0 1rem }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #12161c; color: #e6e9ed }}
  a {{ color: #7db1ff }}
}}
</style>
<main>
<h1>Modelyard {version}</h1>
<p>One HTTP API in front of many machine-learning models.
<ul>{console}
<li><a href="docs">Documentation</a>, with every model's schemas, and a form to try them
<li><a href="models">Models</a> and their state
<li><a href="readyz">Readiness</a> and <a href="metrics">metrics</a>
</ul>
</main>
</html>
"""


_CONSOLE = """
<li><a href="console">Console</a>: which model is slow, what fails, what is released"""


class ByHand(Protocol):
    """Loads and unloads models when somebody asks for it."""

    async def load(self, name: str) -> None:
        """Load all versions of a model from their folders, in place of what is served of it."""
        ...

    async def unload(self, name: str) -> None:
        """Serve a model no longer, until it is loaded again."""
        ...

    def unloaded(self) -> list[Target]:
        """Return what was unloaded and can be loaded again."""
        ...


class Workers(Protocol):
    """What a gateway in a cluster knows about a target's workers."""

    def members(self, target: Target) -> list[Member]:
        """Return the workers, those that serve first."""
        ...

    def queued(self, target: Target) -> int | None:
        """Return how many bundles wait in the broker; None if unknown."""
        ...

    def demand(self, target: Target) -> Demand:
        """Return how many runners this gateway's load needs."""
        ...


def make_router(
    *,
    catalog: Catalog,
    version: str,
    workers: Workers | None,
    by_hand: ByHand | None,
    has_console: bool = False,
) -> APIRouter:
    """Return the routes.

    Args:
        catalog: What they tell of.
        version: Of Modelyard.
        workers: Tells of the workers; None where there are none.
        by_hand: Loads and unloads models; None where nobody may.
        has_console: Whether the start page leads to the console.
    """
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def start(accept: Annotated[str, Header()] = "") -> Response:
        if "text/html" in accept:
            console = _CONSOLE if has_console else ""
            return HTMLResponse(_START_PAGE.format(version=version, console=console))
        return JSONResponse(Links(version=version).model_dump())

    @router.get("/models", tags=["models"], summary="All models")
    async def list_models(request: Request) -> ModelList:
        names = dict.fromkeys(entry.target.name for entry in seen(request, catalog.entries()))
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

    @router.get(
        "/models/{name}",
        tags=["models"],
        summary="One model, with its schemas",
        responses=problem_responses("model_not_found"),
    )
    async def get_model(name: str) -> ModelDetails:
        versions = catalog.versions(name)
        if not versions:
            raise ModelNotFound(NO_MODEL)
        return ModelDetails(name=name, versions=[details_of(e, catalog, workers) for e in versions])

    if by_hand is not None:

        @router.post(
            "/models/{name}/load",
            tags=["models"],
            summary="Load a model from its folder, in place of what is served of it",
            responses=problem_responses("model_not_found", "model_not_ready"),
        )
        async def load_model(name: str) -> ModelDetails:
            await by_hand.load(name)
            return await get_model(name)

        @router.post(
            "/models/{name}/unload",
            tags=["models"],
            summary="Serve a model no longer, until it is loaded again",
            responses=problem_responses("model_not_found"),
            status_code=status.HTTP_204_NO_CONTENT,
        )
        async def unload_model(name: str) -> None:
            await by_hand.unload(name)

    if workers is not None:

        @router.get(
            "/models/{name}/versions/{version}/demand",
            tags=["operations"],
            summary="Runners that this gateway's load on a version needs",
        )
        async def get_demand(name: str, version: str) -> DemandAnswer:
            target = Target(name, version)
            if catalog.find(target) is None:
                raise VersionNotFound("no such model and version; GET /models lists them")
            return DemandAnswer(**msgspec.structs.asdict(workers.demand(target)))

    @router.get(
        "/models/{name}/example",
        tags=["models"],
        summary="A request that the model answers: a body for POST /predict",
        response_model=Question,
        responses=problem_responses("model_not_found"),
    )
    async def get_example(name: str) -> Response:
        entry = catalog.stable(name, None)
        schema = entry.announcement.schema
        if schema is None or schema.example == b"null":
            raise HTTPException(404, f"{entry.target} has no example, or has not been loaded yet")
        body = b'{"model_name":"%b","input_data":%b}' % (name.encode(), schema.example)
        return Response(body, media_type="application/json")

    return router
