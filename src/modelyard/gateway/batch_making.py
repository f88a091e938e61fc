"""Makes bulk runs of files that are sent, or lie at URLs."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response, status

from modelyard.access.gate import Gate, refusal
from modelyard.access.keyring import Principal
from modelyard.core.errors import (
    InvalidInput,
    Malformed,
    TooLarge,
    WrongMediaType,
)
from modelyard.core.names import NAME_PATTERN
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.batch_answers import (
    BatchAnswer,
    BatchQuestion,
    batch_answer,
)
from modelyard.gateway.job_access import principal_of, unknown
from modelyard.gateway.job_answers import answers, json_answer
from modelyard.gateway.orders import url_in
from modelyard.jobs.bulk.desk import BulkDesk, Whose
from modelyard.jobs.bulk.order import FORMATS, MEDIA_TYPES, Format, Order
from modelyard.jobs.desk import Desk
from modelyard.jobs.job import Job

MOST_QUESTION_BYTES = 64 << 10
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_TYPES: dict[str, Format] = {
    **{media_type: kind for kind, media_type in MEDIA_TYPES.items()},
    "application/jsonl": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/x-parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
}
Model = Annotated[str | None, Query(pattern=NAME_PATTERN.replace(r"\Z", "$"))]


def add_making(
    router: APIRouter, bulk: BulkDesk, desk: Desk, *, catalog: Catalog, gate: Gate | None
) -> None:
    """Add the route."""
    made = answers(BatchAnswer, "malformed", "invalid_input", "model_not_found", "too_large")
    made["responses"][202] = made["responses"].pop(200)
    made["responses"][202]["headers"] = {"Location": {"schema": {"type": "string"}}}
    reference = {"$ref": "#/components/schemas/BatchQuestion"}
    bodies = {kind: {"schema": {"type": "string"}} for kind in MEDIA_TYPES.values()}
    extra = {"requestBody": {"content": {"application/json": {"schema": reference}, **bodies}}}

    @router.post(
        "/batches",
        summary="Make a bulk run of a file of rows, or of one at a URL",
        status_code=status.HTTP_202_ACCEPTED,
        openapi_extra=extra,
        **made,
    )
    async def make_batch(
        request: Request,
        *,
        model: Model = None,
        version: Annotated[str | None, Query(max_length=64)] = None,
        format: Format | None = None,  # noqa: A002
        output_format: Format | None = None,
        columns: Annotated[list[str], Query()] = [],  # noqa: B006
        keep: Annotated[list[str], Query()] = [],  # noqa: B006
        id: Annotated[str, Query(max_length=128)] = "",  # noqa: A002
        job_callback: Annotated[str | None, Header(alias="Job-Callback")] = None,
    ) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "application/json":
            asked = await _question_in(request)
        else:
            kind = format or _TYPES.get(media_type)
            if kind is None:
                raise WrongMediaType(
                    "say what is sent with format=csv, jsonl, parquet or arrow; or send "
                    "application/json that names an input_url"
                )
            if model is None:
                raise InvalidInput("say which model is asked: /batches?model=NAME", where="model")
            asked = BatchQuestion(
                model_name=model,
                model_version=version,
                input_url="",
                format=kind,
                output_format=output_format,
                columns=columns,
                keep=keep,
                id=id,
            )
        if job_callback is not None:
            bulk.check_callback(url_in(job_callback.encode()))
        asking = partial(_make, request, asked, callback=job_callback)
        job = await asking(bulk=bulk, desk=desk, catalog=catalog, gate=gate)
        answer = json_answer(batch_answer(job, None))
        answer.status_code = status.HTTP_202_ACCEPTED
        answer.headers["location"] = f"/batches/{job.id}"
        return answer


async def _make(
    request: Request,
    asked: BatchQuestion,
    *,
    callback: str | None,
    bulk: BulkDesk,
    desk: Desk,
    catalog: Catalog,
    gate: Gate | None,
) -> Job:
    """Keep a run, and return it."""
    principal, model = principal_of(request), asked.model_name
    if principal is not None and not principal.scopes.may_predict(model):
        raise refusal(principal, model, scope=f"predict:{model}")
    entry = catalog.resolve(model, asked.model_version)
    if asked.id and not _ID.fullmatch(asked.id):
        raise InvalidInput("an id has up to 128 letters, digits, '.', '_', '~' and '-'", where="id")
    kind = asked.format or FORMATS.get(asked.input_url.rpartition(".")[2].lower())
    if kind is None:
        raise InvalidInput("say what the input is with format", where="format")
    output = asked.output_format or kind
    if "parquet" in (kind, output) or "arrow" in (kind, output):
        from modelyard.jobs.bulk.tables import check_tables

        check_tables()
    for url, is_output in ((asked.input_url, False), (asked.output_url, True)):
        if url and bulk.urls is None:
            raise InvalidInput("this server uses no URLs: see bulk_input_urls")
        if url and bulk.urls is not None:
            bulk.urls.check(url, is_output=is_output)
    whose, uid = whose_of(principal, gate, model), bulk.new_uid()
    order = Order(
        input=asked.input_url or f"files/{uid}",
        is_url=bool(asked.input_url),
        format=kind,
        output_format=output,
        output_url=asked.output_url,
        columns=list(asked.columns),
        keep=list(asked.keep),
    )
    digest = ""
    if not order.is_url:
        received = await bulk.receive(uid, request.stream())
        digest = received.digest
        order = msgspec.structs.replace(order, input_bytes=received.bytes)
    named = {"model": model, "version": entry.target.version, "digest": digest}
    kept = ""
    try:
        kept = await bulk.submit(uid, order, whose, callback=callback, job_id=asked.id, **named)
        job = await desk.find(kept, whose.tenant)
        if job is None:
            raise unknown()
    finally:
        if digest and (not kept or job is None or job.uid != uid):
            await bulk.drop(f"files/{uid}")
    return job


def whose_of(principal: Principal | None, gate: Gate | None, model: str) -> Whose:
    """Return whose run it is, and count it.

    Raises:
        RateLimited: That is too much.
    """
    if principal is None or gate is None:
        return Whose("", "", "")
    account = principal.account or gate.open_account(principal)
    entered = account.enter(model, lambda _: 1.0) if account.meters else ()
    account.admit(entered, model, 0, 1.0)
    return Whose(principal.tenant.hex(), account.owner, account.key)


async def _question_in(request: Request) -> BatchQuestion:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_QUESTION_BYTES:
            raise TooLarge(f"this body is over the limit of {MOST_QUESTION_BYTES} bytes")
    try:
        asked = msgspec.json.decode(body, type=BatchQuestion)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).rpartition(" - at ")
        raise InvalidInput(problem or place, where=place.strip("`") if problem else None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is no JSON: {error}") from error
    if not asked.input_url:
        raise InvalidInput("name the input, or send it as the body", where="$.input_url")
    return asked
