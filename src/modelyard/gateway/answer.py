"""Responses: predictions and problems as status line, headers and body."""

from __future__ import annotations

import msgspec

from modelyard.core.errors import RequestError, Unauthenticated
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.interfaces import CacheUse
from modelyard.gateway.problems import (
    MEDIA_TYPE,
    MethodNotAllowed,
    Problem,
    phrase_of,
    problem_of,
)
from modelyard.gateway.question import MEDIA_TYPES
from modelyard.gateway.types import Respond

_PREDICTION_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)


def prediction_head(form: Form, body_bytes: int, *, request_id: str, cache_use: CacheUse) -> bytes:
    """Return the status line and headers of a prediction, without the blank line."""
    return _PREDICTION_HEAD % (
        MEDIA_TYPES[form],
        body_bytes,
        request_id.encode(),
        cache_use.encode(),
    )


def prediction_body(target: Target, output: bytes, form: Form) -> bytes:
    """Return the body of a response, with the predictions as the runner encoded them."""
    if form == "msgpack":
        return msgspec.msgpack.encode(
            {
                "model_name": target.name,
                "model_version": target.version,
                "prediction": msgspec.Raw(output),
            }
        )
    return b'{"model_name":"%b","model_version":"%b","prediction":%b}' % (
        target.name.encode(),  # names need no escaping: see core/names.py
        target.version.encode(),
        output,
    )


def problem_answer(error: RequestError, request_id: str) -> tuple[bytes, bytes]:
    """Return an error response: status line and headers without the blank line, and the problem
    document as body.
    """
    problem = problem_of(error, request_id=request_id)
    return error_head(error, problem, MEDIA_TYPE, len(problem.body)), problem.body


def error_answer(error: RequestError, request_id: str, *, input_name: str) -> tuple[bytes, bytes]:
    """Return an error response in the format of V1 and V2: ``{"error": …}``.

    ``input_name``: what the protocol calls ``input_data``.
    """
    problem = problem_of(error, request_id=request_id)
    body = error_body(problem, input_name=input_name)
    return error_head(error, problem, "application/json", len(body)), body


def error_body(problem: Problem, *, input_name: str) -> bytes:
    """Return the error document of V1 and V2, which holds one sentence."""
    return msgspec.json.encode({"error": sentence_of(problem, input_name=input_name)})


def sentence_of(problem: Problem, *, input_name: str) -> str:
    """Return what went wrong and where, in one sentence."""
    where = (problem.where or "").removeprefix("$.").replace("input_data", input_name, 1)
    return f"{problem.detail} (at {where})" if where not in ("", "$") else problem.detail


def error_head(error: RequestError, problem: Problem, media_type: str, body_bytes: int) -> bytes:
    """Return the status line and headers of an error response, without the blank line."""
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % body_bytes),
        (b"x-request-id", problem.request_id.encode()),
    ]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    headers += ((name.encode(), value.encode()) for name, value in error.headers.items())
    if error.code == Unauthenticated.code:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.code == MethodNotAllowed.code:
        headers.append((b"allow", b"POST"))
    head = b"HTTP/1.1 %d %b\r\n" % (problem.status, phrase_of(problem.status).encode())
    return head + b"".join(b"%b: %b\r\n" % header for header in headers)


def without_body(respond: Respond) -> Respond:
    """Return what answers a HEAD: its client would take a body for the next response."""
    return lambda head, _: respond(head, b"")
