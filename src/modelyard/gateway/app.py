"""The pages: all that the gateway answers but predictions, in plain FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from modelyard.core.errors import RequestError
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.openapi import add_predict
from modelyard.gateway.problems import MEDIA_TYPE, Problem, problem_of
from modelyard.gateway.question import request_id_of
from modelyard.gateway.routes import Workers, make_router

_CODES = {404: "not_found", 405: "method_not_allowed", 422: "invalid_input"}


def make_pages(
    *,
    catalog: Catalog,
    version: str,
    render_metrics: Callable[[], tuple[bytes, str]],
    verdict: Callable[[], Verdict],
    workers: Workers | None = None,
) -> FastAPI:
    """Give the FastAPI application: models, probes, metrics, documentation."""
    pages = FastAPIOffline(
        title="Modelyard",
        version=version,
        description="One HTTP API in front of many machine-learning models.",
        redoc_url=None,
    )
    pages.include_router(
        make_router(
            catalog=catalog, render_metrics=render_metrics, verdict=verdict, workers=workers
        )
    )
    pages.add_exception_handler(RequestError, _on_request_error)
    pages.add_exception_handler(HTTPException, _on_http_error)
    pages.add_exception_handler(Exception, _on_bug)
    without_predict = pages.openapi
    made: tuple[int, dict[str, Any]] = (-1, {})

    def openapi() -> dict[str, Any]:
        nonlocal made
        if made[0] != catalog.revision:
            pages.openapi_schema = None  # FastAPI would give the same object again
            made = (catalog.revision, add_predict(without_predict(), catalog))
        return made[1]

    pages.openapi = openapi  # type: ignore[method-assign]
    return pages


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _respond(problem_of(error, request_id=_id_of(request)))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = Problem(
        title=error.detail,
        status=error.status_code,
        code=_CODES.get(error.status_code, "malformed"),
        detail="there is nothing here; /docs tells what there is"
        if error.status_code == 404
        else error.detail,
        request_id=_id_of(request),
    )
    return _respond(problem, dict(error.headers or {}))


async def _on_bug(request: Request, error: Exception) -> Response:
    error = RequestError("something went wrong here; the logs have more under the request id")
    return _respond(problem_of(error, request_id=_id_of(request)))


def _id_of(request: Request) -> str:
    return request_id_of(dict(request.headers.raw).get(b"x-request-id"))


def _respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    headers = {"x-request-id": problem.request_id, **(headers or {})}
    return Response(problem.body, problem.status, headers=headers, media_type=MEDIA_TYPE)
