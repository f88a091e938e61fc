"""The calls of KServe's V1 but predictions. The lists are what OpenAI's clients read as well."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from modelyard.dispatch.catalog import Catalog

OWNER = "modelyard"


def make_v1_router(*, catalog: Catalog) -> APIRouter:
    """Give the routes."""
    router = APIRouter(prefix="/v1", tags=["V1"])

    @router.get("/models", summary="All models, for KServe's clients and OpenAI's")
    async def models() -> Response:
        names = list(dict.fromkeys(entry.target.name for entry in catalog.entries()))
        data = [_model(name) for name in names]
        return JSONResponse({"models": names, "object": "list", "data": data})

    @router.get("/models/{name}", summary="Does a model take requests?")
    async def model(name: str) -> Response:
        entry = catalog.resolve(name, None)
        if not entry.is_open:
            raise entry.why_not()
        return JSONResponse({"name": name, "ready": True, **_model(name)})

    return router


def _model(name: str) -> dict[str, Any]:
    """Give what OpenAI's clients read of a model; when it was made is not known."""
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}
