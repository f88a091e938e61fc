"""The pages: everything that the gateway answers except predictions, in plain FastAPI."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import Match

from modelyard.core.errors import (
    InvalidInput,
    JobNotFound,
    Malformed,
    RequestError,
    Unauthenticated,
    WrongMediaType,
)
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.answer import error_body
from modelyard.gateway.batch_answers import add_batch_schemas
from modelyard.gateway.job_pages import add_job_schemas, make_jobs_router
from modelyard.gateway.openai_answers import BODIES as OPENAI_BODIES
from modelyard.gateway.openai_errors import document_of
from modelyard.gateway.openapi import add_bodies, add_keys, add_predict, without_validation
from modelyard.gateway.openapi_doors import add_doors
from modelyard.gateway.openapi_jobs import add_jobs
from modelyard.gateway.openapi_openai import add_openai
from modelyard.gateway.plans import NO_STORE
from modelyard.gateway.probes import make_probes_router
from modelyard.gateway.problems import MEDIA_TYPE, Problem, problem_of
from modelyard.gateway.question import request_id_of
from modelyard.gateway.registry_pages import add_schemas
from modelyard.gateway.routes import ByHand, Workers, make_router
from modelyard.gateway.types import App, Message, Receive, RenderMetrics, Scope, Send
from modelyard.gateway.v1_pages import make_v1_router
from modelyard.gateway.v2_pages import make_v2_router
from modelyard.jobs.desk import Desk

# Settings of /docs: closed sections are not rendered, which takes seconds with many models.
_PAGE = {"defaultModelsExpandDepth": 0, "tryItOutEnabled": True, "syntaxHighlight": False}
_OTHER_PROTOCOLS = ("/v1/", "/v2/")  # whose errors are no problem documents
_OF_OPENAI = re.compile(r"/v1/(?!models([/:]|$))")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_CODES = {404: "not_found", 405: "method_not_allowed", 422: "invalid_input"}


def make_pages(
    *,
    catalog: Catalog,
    version: str,
    render_metrics: RenderMetrics,
    verdict: Callable[[], Verdict],
    workers: Workers | None = None,
    by_hand: ByHand | None = None,
    is_guarded: bool = False,
    registry: APIRouter | None = None,
    mcp: App | None = None,
    jobs: Desk | None = None,
    bulk: APIRouter | None = None,
    console: APIRouter | None = None,
) -> FastAPI:
    """Return the FastAPI application: models, probes, metrics, documentation.

    ``is_guarded``: whether callers need a key, for which ``/docs`` then has a field. ``registry``:
    its routes, where there is one. ``mcp``: the page ``/mcp``, likewise. ``jobs``: tells of jobs,
    where they are kept. ``bulk``: the pages of bulk runs, likewise. ``console``: its pages, where
    there is one.
    """
    pages = FastAPIOffline(
        title="Modelyard",
        version=version,
        description="One HTTP API in front of many machine-learning models.",
        redoc_url=None,
        swagger_ui_parameters=_PAGE,
    )
    pages.include_router(
        make_router(
            catalog=catalog,
            version=version,
            workers=workers,
            by_hand=by_hand,
            has_console=console is not None,
        )
    )
    pages.include_router(
        make_probes_router(catalog=catalog, render_metrics=render_metrics, verdict=verdict)
    )
    pages.include_router(
        make_v2_router(
            catalog=catalog,
            version=version,
            render_metrics=render_metrics,
            verdict=verdict,
            by_hand=by_hand,
        )
    )
    pages.include_router(make_v1_router(catalog=catalog))
    if registry is not None:
        pages.include_router(registry)
    if mcp is not None:
        pages.add_route("/mcp", mcp, methods=["POST"])  # type: ignore[arg-type]
    if jobs is None:
        _add_no_jobs(pages)
    else:
        pages.include_router(make_jobs_router(jobs))
    if bulk is not None:
        pages.include_router(bulk)
    if console is not None:
        pages.include_router(console)
    pages.add_middleware(_AsPages)
    _handle_errors(pages)
    without_predict = pages.openapi
    made: tuple[int, dict[str, Any]] = (-1, {})

    def openapi() -> dict[str, Any]:
        nonlocal made
        if made[0] != catalog.revision:
            if not pages.openapi_schema:  # FastAPI builds it once
                document = without_validation(without_predict())
                if registry is not None:
                    add_schemas(document)
                if jobs is not None:
                    add_job_schemas(document)
                if bulk is not None:
                    add_batch_schemas(document)
                    add_bodies(document, *OPENAI_BODIES)
            document = _add_operations(without_predict(), catalog)
            if jobs is not None:
                add_jobs(document)
            made = (catalog.revision, add_keys(document) if is_guarded else document)
        return made[1]

    pages.openapi = openapi  # type: ignore[method-assign]
    return pages


def make_worker_pages(
    *,
    catalog: Catalog,
    render_metrics: RenderMetrics,
    verdict: Callable[[], Verdict],
) -> FastAPI:
    """Return the application of a worker, which tells nothing but its health and metrics."""
    pages = FastAPI(openapi_url=None)
    pages.add_middleware(_AsPages)
    pages.include_router(
        make_probes_router(catalog=catalog, render_metrics=render_metrics, verdict=verdict)
    )
    _handle_errors(pages)
    return pages


def _add_no_jobs(pages: FastAPI) -> None:
    """Let the pages of jobs and bulk runs say why there are none."""

    async def refuse() -> None:
        raise JobNotFound(NO_STORE)

    for path in ("/jobs", "/batches", "/v1/files", "/v1/batches"):
        for place in (path, f"{path}/{{rest:path}}"):
            pages.add_api_route(place, refuse, methods=[*_METHODS], include_in_schema=False)


def _handle_errors(pages: FastAPI) -> None:
    pages.add_exception_handler(RequestError, refuse_page)
    pages.add_exception_handler(RequestValidationError, _on_invalid)
    pages.add_exception_handler(HTTPException, _on_http_error)
    pages.add_exception_handler(Exception, _on_bug)


def _add_operations(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return the document with the operations that are not pages."""
    document = add_doors(copy.deepcopy(document), catalog)
    return add_predict(add_openai(document, catalog), catalog)


async def refuse_page(request: Request, error: Exception) -> Response:
    """Return the answer of an error."""
    assert isinstance(error, RequestError)
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return _respond(request, problem_of(error, request_id=_id_of(request)), headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Answer what FastAPI refuses by itself: a parameter, or a body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return await refuse_page(request, Malformed("the body is no JSON"))
    where = ".".join(map(str, first["loc"][1:]))
    return await refuse_page(request, InvalidInput(first["msg"], where=where or None))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    is_unknown = error.status_code == 404 and error.detail == title
    problem = Problem(
        title=title,
        status=error.status_code,
        code=_CODES.get(error.status_code, "malformed"),
        detail="there is nothing here; /docs lists all routes" if is_unknown else error.detail,
        request_id=_id_of(request),
    )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _respond(request, problem, {"allow": ", ".join(_methods_at(request))})
    return _respond(request, problem, dict(error.headers or {}))


def _methods_at(request: Request) -> list[str]:
    """Return the methods of a path. Starlette names those of its first route alone."""

    def is_taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    found = [method for method in _METHODS if is_taken(method)]
    return [*found, "HEAD"] if "GET" in found and "HEAD" not in found else found


class _AsPages:
    """Lets a page that can be asked with GET be asked with HEAD: the server sends no body then.
    Refuses bodies that are compressed, which no page reads.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_own = scope.get("path", "").startswith("/registry/blobs/")
        if scope.get("method") == "HEAD" and not has_own:
            sent = [line for line in scope["headers"] if line[0] != b"range"]  # of GET alone
            scope = {**scope, "method": "GET", "headers": sent}
        coded = [value for name, value in scope.get("headers", ()) if name == b"content-encoding"]
        if any(value.strip().lower() not in (b"", b"identity") for value in coded):
            error = WrongMediaType("bodies are taken here without content-encoding")
            await (await refuse_page(Request(scope), error))(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                lines = message["headers"] = [*message.get("headers", ())]
                if all(name != b"x-request-id" for name, _ in lines):
                    lines.append((b"x-request-id", _id_of(Request(scope)).encode()))
            await send(message)

        await self._app(scope, receive, send_with_id)


async def _on_bug(request: Request, error: Exception) -> Response:
    error = RequestError("internal error; see the server's log for this request id")
    return _respond(request, problem_of(error, request_id=_id_of(request)))


def _id_of(request: Request) -> str:
    return request_id_of(dict(request.headers.raw).get(b"x-request-id"))


def _respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    headers = {"x-request-id": problem.request_id, **(headers or {})}
    if _OF_OPENAI.match(request.url.path) is not None:
        body = document_of(problem)
        return Response(body, problem.status, headers=headers, media_type="application/json")
    if f"{request.url.path}/".startswith(_OTHER_PROTOCOLS):
        body = error_body(problem, input_name="instances")
        return Response(body, problem.status, headers=headers, media_type="application/json")
    return Response(problem.body, problem.status, headers=headers, media_type=MEDIA_TYPE)
