"""The calls of KServe's V1 but predictions. The lists are what OpenAI's clients read as well."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request

from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.openai import name_and_version
from modelyard.gateway.rules import seen
from modelyard.gateway.v2_schemas import ErrorAnswer, ListedModel, ModelsList, ModelStatus


def make_v1_router(*, catalog: Catalog) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["V1"])

    @router.get("/models", summary="All models, for KServe's clients and OpenAI's")
    async def models(request: Request) -> ModelsList:
        entries = seen(request, catalog.entries())
        names = list(dict.fromkeys(entry.target.name for entry in entries))
        return ModelsList(models=names, data=[ListedModel(id=name) for name in names])

    @router.get(
        "/models/{name}",
        summary="Does a model take requests?",
        responses={404: {"model": ErrorAnswer}, 503: {"model": ErrorAnswer}},
    )
    async def model(name: str) -> ModelStatus:
        entry = catalog.stable(*name_and_version(name))
        if not entry.is_open:
            raise entry.why_not()
        return ModelStatus(name=name, ready=True, id=name)

    @router.post(
        "/models/{name}:explain",
        summary="Explanations are not offered",
        status_code=501,
        responses={501: {"model": ErrorAnswer}},
    )
    async def explain(name: str) -> None:
        raise HTTPException(501, "explanations are not offered here")

    return router
