"""The calls of the Open Inference Protocol V2 but inference, and of Triton's extensions to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from modelyard.core.errors import Malformed
from modelyard.core.names import is_loopback
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway import v2_schemas as schemas
from modelyard.gateway.routes import ByHand
from modelyard.gateway.rules import PRINCIPAL, seen
from modelyard.gateway.types import RenderMetrics
from modelyard.gateway.v2_facts import (
    check_load,
    config_document,
    index_document,
    metadata_document,
    server_document,
    stats_documents,
    stats_entries,
)

_OF_VERSION = "/models/{name}/versions/{version}"


class _IndexRequest(msgspec.Struct):
    ready: bool = False


class _LoadRequest(msgspec.Struct):
    parameters: dict[str, Any] | None = None


_T = TypeVar("_T")

_ERROR: dict[str, Any] = {"model": schemas.ErrorAnswer}
_INDEX = schemas.IndexQuestion.model_json_schema()


def _both(router: APIRouter, path: str, summary: str, answer: Any) -> Callable[[Any], Any]:
    """Add a call for a model, with and without a version in its path."""

    def add(endpoint: Any) -> Any:
        for prefix, more in (("/models/{name}", ""), (_OF_VERSION, ", of a version")):
            router.get(
                prefix + path,
                summary=summary + more,
                response_model=answer,
                responses={404: _ERROR, 503: _ERROR},
            )(endpoint)
        return endpoint

    return add


async def _asked(request: Request, kind: type[_T]) -> _T:
    """Return what the body asks, which may be left out.

    Raises:
        Malformed: It is not what the protocol says.
    """
    body = await request.body()
    try:
        return msgspec.json.decode(body if body.strip() else b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def make_v2_router(
    *,
    catalog: Catalog,
    version: str,
    render_metrics: RenderMetrics,
    verdict: Callable[[], Verdict],
    by_hand: ByHand | None = None,
) -> APIRouter:
    """Give the routes; the arguments are those of ``make_router``."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol V2"])

    @router.get("/", include_in_schema=False)
    @router.get("", summary="What this server is and offers")
    async def server() -> schemas.Server:
        return schemas.Server(**server_document(version))

    @router.get("/health/live", summary="Is the process alive?")
    async def live() -> schemas.Live:
        return schemas.Live(live=True)

    @router.get(
        "/health/ready",
        summary="Should requests come here?",
        responses={503: {"model": schemas.Ready, "description": "No"}},
    )
    async def ready(response: Response) -> schemas.Ready:
        is_ready = verdict().is_ready
        response.status_code = 200 if is_ready else 503
        return schemas.Ready(live=True, ready=is_ready)

    @router.get("/models", summary="The names of all models")
    async def models(request: Request) -> schemas.Models:
        names = dict.fromkeys(entry.target.name for entry in seen(request, catalog.entries()))
        return schemas.Models(models=list(names))

    async def statistics_of(entries: list[Entry]) -> schemas.ModelStatistics:
        documents = await stats_documents(entries, render_metrics)
        return schemas.ModelStatistics(model_stats=documents)

    @router.get("/models/stats", summary="Statistics of all models")
    async def all_statistics(request: Request) -> schemas.ModelStatistics:
        return await statistics_of(seen(request, catalog.entries()))

    @_both(router, "", "What a model takes and gives, as tensors", schemas.ModelMetadata)
    async def metadata(name: str, version: str | None = None) -> Response:
        return JSONResponse(metadata_document(catalog, name, version))

    @_both(router, "/ready", "Does a model take requests?", schemas.ModelReady)
    async def model_ready(name: str, version: str | None = None) -> Response:
        entry = catalog.stable(name, version)
        if not entry.is_open:
            raise entry.why_not()
        return JSONResponse({"name": name, "ready": True})

    @_both(router, "/config", "A model's configuration, for Triton's clients", dict[str, Any])
    async def config(name: str, version: str | None = None) -> Response:
        return JSONResponse(config_document(catalog.stable(name, version)))

    @_both(router, "/stats", "A model's statistics", schemas.ModelStatistics)
    async def statistics(name: str, version: str | None = None) -> schemas.ModelStatistics:
        return await statistics_of(stats_entries(catalog, name, version))

    @router.post(
        "/repository/index",
        summary="All versions of all models, and their states",
        response_model=list[schemas.IndexEntry],
        responses={400: _ERROR},
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": _INDEX}}}},
    )
    async def index(request: Request) -> Response:
        asked = await _asked(request, _IndexRequest)
        principal = request.scope.get(PRINCIPAL)
        return JSONResponse(index_document(catalog, by_hand, principal, is_ready=asked.ready))

    def changing(request: Request) -> ByHand:
        is_known = request.scope.get(PRINCIPAL) is not None
        if not is_known and (request.client is None or not is_loopback(request.client.host)):
            raise HTTPException(403, "models are loaded and unloaded from this machine alone")
        if by_hand is None:
            raise HTTPException(501, "this server does not load or unload models by hand")
        return by_hand

    responses: dict[int | str, dict[str, Any]] = {403: _ERROR, 404: _ERROR, 501: _ERROR}

    @router.post(
        "/repository/models/{name}/load",
        summary="Load a model from its folder, in place of what is served of it",
        response_class=Response,
        responses={**responses, 400: _ERROR, 422: _ERROR, 503: _ERROR},
    )
    async def load(name: str, request: Request) -> Response:
        by_hand = changing(request)
        check_load((await _asked(request, _LoadRequest)).parameters or ())
        await by_hand.load(name)
        return Response()

    @router.post(
        "/repository/models/{name}/unload",
        summary="Serve a model no longer, until it is loaded again",
        response_class=Response,
        responses=responses,
    )
    async def unload(name: str, request: Request) -> Response:
        await changing(request).unload(name)
        return Response()

    return router
