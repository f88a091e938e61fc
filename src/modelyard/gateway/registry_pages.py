"""The registry over HTTP: versions and aliases are read and changed, artefacts come and go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from msgspec import Meta
from starlette.requests import ClientDisconnect

from modelyard.access.keyring import Principal
from modelyard.core.errors import (
    InvalidInput,
    Malformed,
    ModelNotFound,
    TooLarge,
    Unavailable,
    VersionNotFound,
)
from modelyard.core.names import Name, Target
from modelyard.core.routes import Snapshot
from modelyard.core.versions import Change, Contents, VersionDetails, VersionSummary
from modelyard.gateway.openapi import add_bodies, problem_responses
from modelyard.gateway.rules import PRINCIPAL
from modelyard.registry.interface import PIECE_BYTES, Collected
from modelyard.registry.kept import KeptRegistry

MOST_CONTENTS_BYTES = 16 << 20
MOST_BODY_BYTES = 64 << 10
_DIGEST = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")

Routes = APIRouter
"""What ``make_pages`` takes."""


class VersionList(msgspec.Struct, frozen=True):
    """Versions, the newest of each model last."""

    versions: list[VersionSummary]


class ChangeList(msgspec.Struct, frozen=True):
    """Who did what to a model, the newest last."""

    changes: list[Change]


class AliasQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For which version an alias should stand, and why."""

    version: Name
    why: Annotated[str, Meta(max_length=2000)] = ""


class AliasAnswer(msgspec.Struct, frozen=True):
    """For which version an alias stands, and stood before; empty for none."""

    version: str
    was: str


class CollectQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of each model's newest versions stay; all if it is null."""

    keep: Annotated[int, Meta(ge=0)] | None = None
    is_dry: bool = False


_UNKNOWN = ("model_not_found", "version_not_found")
_BODIES = (
    *(VersionList, VersionDetails, ChangeList, Contents, AliasQuestion, AliasAnswer),
    *(CollectQuestion, Collected, Snapshot),
)


def add_schemas(document: dict[str, Any]) -> None:
    """Add what the registry's operations refer to."""
    add_bodies(document, *_BODIES)


def make_registry_router(
    registry: KeptRegistry,
    *,
    snapshot: Callable[[], Snapshot],
    most_bytes: int,
    may_change: bool,
) -> Routes:
    """Return the routes.

    Args:
        registry: What they tell of.
        snapshot: Returns the routes and aliases of models that are followed here.
        most_bytes: How large an artefact may be.
        may_change: Whether callers may change anything.
    """
    router = APIRouter(tags=["registry"])
    _add_reading(router, registry)
    _add_following(router, snapshot)
    if may_change:
        _add_artefacts(router, registry, most_bytes)
        _add_changing(router, registry)
    return router


def _add_reading(router: APIRouter, registry: KeptRegistry) -> None:
    @router.get("/registry/models", summary="All versions", **_answers(VersionList))
    def list_versions(request: Request) -> Response:
        principal: Principal | None = request.scope.get(PRINCIPAL)
        found = registry.versions()
        if principal is not None:
            found = [one for one in found if principal.scopes.may_see(one.name)]
        return _json(VersionList(found))

    @router.get(
        "/registry/models/{name}",
        summary="A model's versions",
        **_answers(VersionList, "model_not_found"),
    )
    def list_of_model(name: str) -> Response:
        found = registry.versions(name)
        if not found:
            raise ModelNotFound("the registry has no such model; GET /registry/models lists all")
        return _json(VersionList(found))

    @router.get(
        "/registry/models/{name}/audit",
        summary="Who did what to a model's versions and aliases",
        **_answers(ChangeList, "model_not_found"),
    )
    def audit(name: str) -> Response:
        found = registry.audit(name)
        if not found:
            raise ModelNotFound("the registry has no such model; GET /registry/models lists all")
        return _json(ChangeList(found))

    @router.get(
        "/registry/models/{name}/versions/{version}",
        summary="A version, or what an alias stands for",
        **_answers(VersionDetails, *_UNKNOWN),
    )
    def get_version(name: str, version: str) -> Response:
        return _json(registry.find(name, version))

    @router.get(
        "/registry/models/{name}/versions/{version}/files/{path:path}",
        summary="A file of a version",
        response_class=StreamingResponse,
        responses=problem_responses(*_UNKNOWN),
    )
    def get_file(name: str, version: str, path: str) -> Response:
        found = registry.find(name, version)
        file = next((file for file in found.contents.files if file.path == path), None)
        if file is None:
            raise VersionNotFound(f"{found.target} has no file {path!r}")
        pieces = _pieces(registry, found, path)
        first = next(pieces, b"")  # here, where a failure still has an answer of its own
        return StreamingResponse(
            chain((first,), pieces),
            headers={"content-length": str(file.size), "etag": f'"{file.digest}"'},
            media_type="application/octet-stream",
        )


def _add_following(router: APIRouter, snapshot: Callable[[], Snapshot]) -> None:
    unchanged: dict[int | str, dict[str, Any]] = {204: {"description": "The number is the same"}}
    answers = _answers(Snapshot, "unavailable")
    answers["responses"] |= unchanged

    @router.get("/registry/routes", summary="Routes and aliases of all models", **answers)
    def get_routes(request: Request, after: Annotated[int | None, Query()] = None) -> Response:
        found = snapshot()
        if found.number < 0:
            raise Unavailable("this gateway has not read any routes yet")
        if found.number == after:
            return Response(status_code=status.HTTP_204_NO_CONTENT)
        principal: Principal | None = request.scope.get(PRINCIPAL)
        return _json(found if principal is None else found.of(principal.scopes.may_see))


def _add_artefacts(router: APIRouter, registry: KeptRegistry, most_bytes: int) -> None:
    path = "/registry/blobs/sha256/{digest}"

    absent: dict[int | str, dict[str, Any]] = {404: {"description": "It is not"}}
    absent[422] = {"description": "That is no digest"}

    @router.head(path, summary="Whether an artefact is there", responses=absent)
    def has_blob(digest: str) -> Response:
        size = registry.blobs.size_of(_checked(digest))
        return Response(status_code=404 if size is None else 200)

    @router.put(
        path,
        summary="Send an artefact",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=problem_responses("too_large", "invalid_input", "unavailable"),
    )
    async def put_blob(digest: str, request: Request) -> Response:
        size = int(request.headers.get("content-length", 0))
        if size > most_bytes:
            raise TooLarge(f"an artefact may have {most_bytes} bytes, and this has {size}")
        with registry.blobs.receiving(_checked(digest), most_bytes=most_bytes) as incoming:
            try:
                gathered = bytearray()
                async for piece in request.stream():
                    gathered += piece
                    if len(gathered) >= PIECE_BYTES:
                        await asyncio.to_thread(incoming.write, bytes(gathered))
                        gathered.clear()
            except ClientDisconnect:
                return Response(status_code=status.HTTP_400_BAD_REQUEST)  # nobody reads it
            await asyncio.to_thread(incoming.write, bytes(gathered))
            await asyncio.to_thread(incoming.finish)
        return Response(status_code=status.HTTP_204_NO_CONTENT)


def _add_changing(router: APIRouter, registry: KeptRegistry) -> None:
    @router.put(
        "/registry/models/{name}/versions/{version}",
        summary="Make a version of artefacts that were sent",
        openapi_extra=_asks(Contents),
        **_answers(VersionDetails, "conflict", "too_large", "malformed", "invalid_input"),
    )
    async def put_version(name: str, version: str, request: Request) -> Response:
        contents = await _read(request, Contents, most_bytes=MOST_CONTENTS_BYTES)
        acting = registry.acting(_actor(request))
        return _json(await asyncio.to_thread(acting.push, Target(name, version), contents))

    @router.put(
        "/registry/models/{name}/aliases/{alias}",
        summary="Let an alias stand for a version",
        openapi_extra=_asks(AliasQuestion),
        **_answers(AliasAnswer, *_UNKNOWN, "conflict", "malformed", "invalid_input"),
    )
    async def put_alias(name: str, alias: str, request: Request) -> Response:
        asked = await _read(request, AliasQuestion, most_bytes=MOST_BODY_BYTES)
        acting, target = registry.acting(_actor(request)), Target(name, asked.version)
        was = await asyncio.to_thread(acting.set_alias, target, alias, why=asked.why)
        return _json(AliasAnswer(asked.version, was))

    @router.delete(
        "/registry/models/{name}/aliases/{alias}",
        summary="Let an alias stand for nothing",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=problem_responses("model_not_found", "version_not_found"),
    )
    def delete_alias(
        name: str, alias: str, request: Request, why: Annotated[str, Query()] = ""
    ) -> None:
        registry.acting(_actor(request)).remove_alias(name, alias, why=why)

    @router.post(
        "/registry/collect",
        summary="Remove artefacts that no version needs, and old versions that nothing names",
        openapi_extra=_asks(CollectQuestion),
        **_answers(Collected, "malformed", "invalid_input"),
    )
    async def collect(request: Request) -> Response:
        asked = await _read(request, CollectQuestion, most_bytes=MOST_BODY_BYTES)
        acting = registry.acting(_actor(request))
        return _json(await asyncio.to_thread(acting.collect, keep=asked.keep, is_dry=asked.is_dry))


def _pieces(registry: KeptRegistry, version: VersionDetails, path: str) -> Iterator[bytes]:
    with registry.fetch(version, path) as pieces:
        yield from pieces


async def _read(request: Request, kind: type[T], *, most_bytes: int) -> T:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise TooLarge(f"the body is over the limit of {most_bytes} bytes")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).rpartition(" - at ")
        raise InvalidInput(problem or place, where=place.strip("`") if problem else None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is no JSON: {error}") from error


def _actor(request: Request) -> str:
    """Return who asks, for the audit."""
    principal: Principal | None = request.scope.get(PRINCIPAL)
    if principal is not None:
        return principal.id
    return f"somebody at {request.client.host}" if request.client else "somebody"


def _checked(digest: str) -> str:
    if _DIGEST.fullmatch(digest) is None:
        raise InvalidInput("a digest is 64 hexadecimal digits, in lower case")
    return f"sha256:{digest}"


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _reference(kind: type[msgspec.Struct]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"content": {"application/json": {"schema": schema}}}


def _asks(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"requestBody": {"required": True, **_reference(kind)}}


def _answers(kind: type[msgspec.Struct], *codes: str) -> dict[str, Any]:
    answer = {"description": (kind.__doc__ or "").splitlines()[0], **_reference(kind)}
    return {"response_class": Response, "responses": {200: answer, **problem_responses(*codes)}}
