"""The calls of the Open Inference Protocol V2 but inference, and of Triton's extensions to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from modelyard.core.datatypes import DATATYPES
from modelyard.core.errors import Malformed, Unavailable
from modelyard.core.messages import State
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog, Entry
from modelyard.gateway import v2_schemas as schemas
from modelyard.gateway.routes import ByHand, is_loopback
from modelyard.telemetry.statistics import NONE, Statistics, statistics_of

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
PLATFORM = "modelyard"

_STATES: dict[State, str] = {
    "starting": "LOADING",
    "ready": "READY",
    "recovering": "READY",
    "asleep": "READY",
    "failed": "UNAVAILABLE",
    "stopped": "UNAVAILABLE",
}
_OF_VERSION = "/models/{name}/versions/{version}"
_NANOSECONDS = 1_000_000_000


class _IndexRequest(msgspec.Struct):
    ready: bool = False


_decode_index = msgspec.json.Decoder(_IndexRequest).decode


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


def make_v2_router(
    *,
    catalog: Catalog,
    version: str,
    render_metrics: Callable[[], tuple[bytes, str]],
    verdict: Callable[[], Verdict],
    by_hand: ByHand | None = None,
) -> APIRouter:
    """Give the routes; the arguments are those of ``make_router``."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol V2"])

    @router.get("/", include_in_schema=False)
    @router.get("", summary="What this server is and offers")
    async def server() -> schemas.Server:
        return schemas.Server(name="modelyard", version=version, extensions=list(EXTENSIONS))

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
    async def models() -> schemas.Models:
        names = dict.fromkeys(entry.target.name for entry in catalog.entries())
        return schemas.Models(models=list(names))

    @router.get("/models/stats", summary="Statistics of all models")
    async def all_statistics() -> schemas.ModelStatistics:
        return await _statistics(catalog.entries(), render_metrics)

    @_both(router, "", "What a model takes and gives, as tensors", schemas.ModelMetadata)
    async def metadata(name: str, version: str | None = None) -> Response:
        entry = catalog.resolve(name, version)
        return JSONResponse(
            {
                "name": name,
                "versions": [found.target.version for found in catalog.versions(name)],
                "platform": PLATFORM,
                **_tensors(entry),
            }
        )

    @_both(router, "/ready", "Does a model take requests?", schemas.ModelReady)
    async def model_ready(name: str, version: str | None = None) -> Response:
        entry = catalog.resolve(name, version)
        if not entry.is_open:
            raise entry.why_not()
        return JSONResponse({"name": name, "ready": True})

    @_both(router, "/config", "A model's configuration, for Triton's clients", dict[str, Any])
    async def config(name: str, version: str | None = None) -> Response:
        return JSONResponse(_config(catalog.resolve(name, version)))

    @_both(router, "/stats", "A model's statistics", schemas.ModelStatistics)
    async def statistics(name: str, version: str | None = None) -> schemas.ModelStatistics:
        entry = catalog.resolve(name, version)
        entries = catalog.versions(name) if version is None else [entry]
        return await _statistics(entries, render_metrics)

    @router.post(
        "/repository/index",
        summary="All versions of all models, and their states",
        response_model=list[schemas.IndexEntry],
        responses={400: _ERROR},
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": _INDEX}}}},
    )
    async def index(request: Request) -> Response:
        body = await request.body()
        try:
            asked = _decode_index(body) if body.strip() else _IndexRequest()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(str(error)) from None
        return JSONResponse(
            [_in_index(entry) for entry in catalog.entries() if entry.is_open or not asked.ready]
        )

    def changing(request: Request) -> ByHand:
        if request.client is None or not is_loopback(request.client.host):
            raise HTTPException(403, "models are loaded and unloaded from this machine alone")
        if by_hand is None:
            raise HTTPException(501, "this server does not load or unload models by hand")
        return by_hand

    responses: dict[int | str, dict[str, Any]] = {403: _ERROR, 404: _ERROR, 501: _ERROR}

    @router.post(
        "/repository/models/{name}/load",
        summary="Load a model from its folder, in place of what is served of it",
        response_class=Response,
        responses={**responses, 503: _ERROR},
    )
    async def load(name: str, request: Request) -> Response:
        await changing(request).load(name)
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


def _tensors(entry: Entry) -> dict[str, Any]:
    """Give ``inputs`` and ``outputs`` of a target.

    Raises:
        RequestError: They are not known: the model has not been loaded yet.
    """
    schema = entry.announcement.schema
    if schema is None:
        if not entry.is_serving:
            raise entry.why_not()
        raise Unavailable(f"{entry.target} has not said yet what it takes")
    if not schema.tensors:
        raise Unavailable(f"the workers of {entry.target} do not say what tensors it takes")
    found: dict[str, Any] = msgspec.json.decode(schema.tensors)
    return found


def _config(entry: Entry) -> dict[str, Any]:
    known, tensors = entry.announcement, _tensors(entry)
    sides = {
        side: [
            {
                "name": tensor["name"],
                "data_type": _config_type(tensor["datatype"]),
                "dims": tensor["shape"][1:],  # the batch is said by max_batch_size
                **({"optional": True} if tensor.get("parameters", {}).get("optional") else {}),
            }
            for tensor in tensors[f"{side}s"]
        ]
        for side in ("input", "output")
    }
    return {
        "name": entry.target.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "versions": [entry.target.version],
        "max_batch_size": known.max_batch_size,
        **sides,
        "instance_group": [
            {"name": entry.target.name, "kind": "KIND_CPU", "count": max(1, known.runners)}
        ],
        "dynamic_batching": {"priority_levels": 2, "default_priority_level": 2},
        "response_cache": {"enable": known.cache_ttl_s > 0},
    }


def _config_type(datatype: str) -> str:
    """Give the name that a datatype has in configurations."""
    return "TYPE_STRING" if DATATYPES[datatype].kind == "bytes" else f"TYPE_{datatype}"


def _in_index(entry: Entry) -> dict[str, str]:
    known = entry.announcement
    return {
        "name": entry.target.name,
        "version": entry.target.version,
        "state": _STATES[known.state],
        "reason": known.reason,
    }


async def _statistics(
    entries: list[Entry], render_metrics: Callable[[], tuple[bytes, str]]
) -> schemas.ModelStatistics:
    # In a thread, as /metrics.
    found = await asyncio.to_thread(lambda: statistics_of(render_metrics()[0]))
    return schemas.ModelStatistics(
        model_stats=[_stats(entry, found.get(entry.target, NONE)) for entry in entries]
    )


def _stats(entry: Entry, found: Statistics) -> dict[str, Any]:
    return {
        "name": entry.target.name,
        "version": entry.target.version,
        "inference_count": found.instances or found.ok,
        "execution_count": found.batches or found.ok,
        "inference_stats": {
            "success": _duration(found.ok, found.request_s),
            "fail": _duration(found.failed),
            "queue": _duration(found.queued, found.queue_s),
            "compute_input": _duration(found.batches),
            "compute_infer": _duration(found.batches, found.model_s),
            "compute_output": _duration(found.batches),
            "cache_hit": _duration(found.hits),
            "cache_miss": _duration(found.misses),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float = 0.0) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NANOSECONDS)}
