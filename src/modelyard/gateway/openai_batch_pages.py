"""The OpenAI API: ``/v1/files`` and ``/v1/batches``, over the same bulk runs as ``/batches``.

A batch is a job, and its outputs are files whose ids name that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from modelyard.access.gate import Gate, refusal
from modelyard.core.errors import Conflict, InvalidInput, Malformed
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.batch_making import whose_of
from modelyard.gateway.batch_pages import answer_file, find_batch
from modelyard.gateway.form_parts import FilePart
from modelyard.gateway.job_access import may_see, principal_of, tenant_of
from modelyard.gateway.job_answers import json_answer
from modelyard.gateway.openai import name_and_version
from modelyard.gateway.openai_answers import (
    STATUS,
    BatchObject,
    BatchRequest,
    FileObject,
    Page,
    Removed,
    batch_object,
    file_object,
    output_object,
    run_and_kind_of,
)
from modelyard.gateway.openai_lines import ENDPOINTS, read_line
from modelyard.gateway.openapi_openai import NO_ANSWER, content
from modelyard.gateway.problems import NotThere
from modelyard.jobs.bulk.desk import BulkDesk, Whose, name_of
from modelyard.jobs.bulk.order import DOOR, MEDIA_TYPES, File, Order, Wanted
from modelyard.jobs.bulk.pieces import MOST_ROW_BYTES
from modelyard.jobs.bulk.reading import BOM
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import Job, Question

MOST_LISTED = 100
MOST_FILES = 10_000
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "contentMediaType": MEDIA_TYPES["jsonl"]},
                        "purpose": {"const": "batch"},
                    },
                }
            }
        },
    }
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Its lines", "content": {MEDIA_TYPES["jsonl"]: {}}},
    206: {"description": "Those that Range asks for", "content": {MEDIA_TYPES["jsonl"]: {}}},
}
_read_model = msgspec.json.Decoder(dict[str, Any]).decode


def make_openai_batches_router(
    bulk: BulkDesk, desk: Desk, *, catalog: Catalog, gate: Gate | None
) -> APIRouter:
    """Return the routes.

    Args:
        bulk: Takes files and runs.
        desk: Tells of jobs.
        catalog: Knows models.
        gate: Says who may ask; None if everybody may.
    """
    router = APIRouter(prefix="/v1", tags=["OpenAI"], responses={"default": NO_ANSWER})
    _add_files(router, bulk, desk, gate)
    _add_batches(router, bulk, desk)
    _add_making(router, bulk, desk, catalog, gate)
    return router


def _add_files(router: APIRouter, bulk: BulkDesk, desk: Desk, gate: Gate | None) -> None:
    @router.post(
        "/files", summary="Send a file of requests", openapi_extra=_FORM, **_answers(FileObject)
    )
    async def make_file(request: Request) -> Response:
        part = FilePart(request.headers.get("content-type", "").encode())
        uid = bulk.new_uid()
        received = await bulk.receive(uid, part.content(request.stream()))
        try:
            purpose = part.fields.get("purpose", "")
            if purpose != "batch":
                raise InvalidInput("the purpose of files is 'batch' here", where="$.purpose")
            if part.name is None:
                raise InvalidInput("the form has no file", where="$.file")
            whose = _whose(request, gate)
            file = await bulk.add_file(received, whose, part.name, purpose)
        except BaseException:
            await bulk.drop(received.name)
            raise
        return json_answer(file_object(file))

    @router.get("/files", summary="Files, the newest first", **_answers(Page))
    async def list_files(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MOST_FILES)] = MOST_FILES,
        after: Annotated[str | None, Query(max_length=64)] = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        wanted = Wanted(_listed(request), after, purpose, is_newest_first=order == "desc")
        found = await bulk.list_files(wanted, limit + 1)
        return json_answer(_page([file_object(file) for file in found], limit))

    @router.get("/files/{id}", summary="A file", **_answers(FileObject))
    async def get_file(id: str, request: Request) -> Response:  # noqa: A002
        found = await _output_of(id, request, desk)
        if found is None:
            return json_answer(file_object(await _file(id, request, bulk)))
        job, kind = found
        size = await bulk.size(f"runs/{job.uid}/{kind}")
        if size is None:
            raise NotThere("there is no such file")
        return json_answer(output_object(job, kind, size))

    @router.get("/files/{id}/content", summary="What is in a file", responses=_CONTENT)
    async def get_content(id: str, request: Request) -> Response:  # noqa: A002
        found = await _output_of(id, request, desk)
        if found is not None:
            return await answer_file(bulk, *found, MEDIA_TYPES["jsonl"], request)
        file = await _file(id, request, bulk)
        body: AsyncIterator[bytes] = bulk.read(name_of(file), 0, file.bytes)
        headers = {"content-length": str(file.bytes)}
        return StreamingResponse(body, headers=headers, media_type=MEDIA_TYPES["jsonl"])

    @router.delete("/files/{id}", summary="Remove a file", **_answers(Removed))
    async def remove_file(id: str, request: Request) -> Response:  # noqa: A002
        found = await _output_of(id, request, desk)
        if found is None:
            await bulk.remove_file(await _file(id, request, bulk))
            return json_answer(Removed(id))
        job, kind = found
        name = f"runs/{job.uid}/{kind}"
        if job.is_open or await bulk.size(name) is None:
            raise NotThere("there is no such file")
        await bulk.drop(name)
        return json_answer(Removed(id))


def _add_batches(router: APIRouter, bulk: BulkDesk, desk: Desk) -> None:
    async def told(job: Job) -> BatchObject:
        totals = (await bulk.totals_of([job])).get(job.uid)
        return batch_object(job, await bulk.order_of(job), totals)

    @router.get("/batches", summary="Batches, the newest first", **_answers(Page))
    async def list_batches(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
        after: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        before = None if after is None else after.removeprefix("batch_")
        principal, tenant = principal_of(request), _listed(request)
        found: list[BatchObject] = []
        while len(found) <= limit:  # other bulk runs are among them
            question = Question(tenant=tenant, before=before, most=MOST_LISTED, door=DOOR)
            page = await desk.listed(question)
            seen = [await told(job) for job in page if may_see(principal, job)]
            found += [one for one in seen if one.endpoint]
            if len(page) < MOST_LISTED:
                break
            before = page[-1].uid
        return json_answer(_page(found, limit))

    @router.get("/batches/{id}", summary="A batch", **_answers(BatchObject))
    async def get_batch(id: str, request: Request) -> Response:  # noqa: A002
        return json_answer(await told(await _batch(id, request, desk)))

    @router.post("/batches/{id}/cancel", summary="End a batch", **_answers(BatchObject))
    async def cancel_batch(id: str, request: Request) -> Response:  # noqa: A002
        job = await _batch(id, request, desk)
        if not await desk.cancel(job):
            raise Conflict(f"the batch is {STATUS[job.state]} already")
        return json_answer(await told(await _batch(id, request, desk)))


def _add_making(
    router: APIRouter, bulk: BulkDesk, desk: Desk, catalog: Catalog, gate: Gate | None
) -> None:
    @router.post(
        "/batches",
        summary="Make a batch of a file of requests",
        openapi_extra={"requestBody": {"required": True, "content": content(BatchRequest)}},
        **_answers(BatchObject),
    )
    async def make_batch(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await request.body(), type=BatchRequest)
        except msgspec.ValidationError as error:
            raise InvalidInput(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"the body is no JSON: {error}") from error
        if asked.endpoint not in ENDPOINTS:
            told = ", ".join(ENDPOINTS)
            raise InvalidInput(f"batches are of {told}", where="$.endpoint")
        file = await _file(asked.input_file_id, request, bulk)
        name, version = name_and_version(await _model_in(file, bulk))
        principal = principal_of(request)
        if principal is not None and not principal.scopes.may_predict(name):
            raise refusal(principal, name, scope=f"predict:{name}")
        entry = catalog.resolve(name, version)
        whose, uid = whose_of(principal, gate, name), bulk.new_uid()
        order = Order(
            input=name_of(file),
            format="jsonl",
            output_format="jsonl",
            endpoint=asked.endpoint,
            metadata=asked.metadata or {},
            input_id=file.id,
        )
        target = entry.target
        named = {"job_id": "", "digest": ""}
        await bulk.submit(uid, order, whose, model=target.name, version=target.version, **named)
        return json_answer(batch_object(await _batch(uid, request, desk), order, None))


def _answers(kind: type[msgspec.Struct]) -> dict[str, Any]:
    answer = {"description": (kind.__doc__ or "").splitlines()[0], "content": content(kind)}
    return {"response_class": Response, "responses": {200: answer}}


async def _model_in(file: File, bulk: BulkDesk) -> str:
    """Return the model that the first line of a file asks; all lines ask it."""
    head = b""
    async for piece in bulk.read(name_of(file), 0, min(file.bytes, MOST_ROW_BYTES)):
        head += piece
        if b"\n" in head.lstrip():
            break
    try:
        line = read_line(head.removeprefix(BOM).lstrip().partition(b"\n")[0])
        return str(_read_model(line.body)["model"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise InvalidInput(
            'the first line of the file is no request: {"custom_id": …, "method": "POST", '
            '"url": …, "body": {"model": …}}',
            where="$.input_file_id",
        ) from error


async def _file(file_id: str, request: Request, bulk: BulkDesk) -> File:
    found = await bulk.find_file(file_id, _listed(request))
    if found is None:
        raise NotThere("there is no such file; GET /v1/files lists those that you may see")
    return found


async def _batch(batch_id: str, request: Request, desk: Desk) -> Job:
    return await find_batch(desk, batch_id.removeprefix("batch_"), request)


async def _output_of(
    file_id: str, request: Request, desk: Desk
) -> tuple[Job, Literal["output", "errors"]] | None:
    """Return the run whose output or failures a file is; None if it is another one."""
    found = run_and_kind_of(file_id)
    return None if found is None else (await _batch(found[0], request, desk), found[1])


def _page(found: list[Any], limit: int) -> Page:
    """Return the first so many; has_more tells whether there are others."""
    return Page(found[:limit], has_more=len(found) > limit)


def _listed(request: Request) -> str | None:
    principal = principal_of(request)
    sees_all = principal is None or principal.scopes.is_admin
    return None if sees_all else tenant_of(principal)


def _whose(request: Request, gate: Gate | None) -> Whose:
    principal = principal_of(request)
    if principal is None or gate is None:
        return Whose("", "", "")
    account = principal.account or gate.open_account(principal)
    return Whose(principal.tenant.hex(), account.owner, account.key)
