"""Errors as OpenAI's clients read them."""

from __future__ import annotations

import re

import msgspec

from modelyard.core.errors import RequestError
from modelyard.gateway.answer import error_head
from modelyard.gateway.problems import Problem, problem_of

_INSTANCE = re.compile(r"^\$(\.input_data(\[0\])?)?\.?")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str


def openai_problem(error: RequestError, request_id: str) -> tuple[bytes, bytes]:
    """Return an error response: its status is that of ``/predict``, and so is its code."""
    problem = problem_of(error, request_id=request_id)
    body = document_of(problem)
    return error_head(error, problem, "application/json", len(body)), body


def error_document(error: RequestError, request_id: str) -> bytes:
    """Return the document of an error, in JSON."""
    return document_of(problem_of(error, request_id=request_id))


def document_of(problem: Problem) -> bytes:
    """Return the document of a problem, in JSON."""
    usual = "server_error" if problem.status >= 500 else "invalid_request_error"
    where = _INSTANCE.sub("", problem.where or "")
    told = _Error(problem.detail, _TYPES.get(problem.status, usual), where or None, problem.code)
    return msgspec.json.encode({"error": told})
