"""Errors as problem documents (RFC 9457), with the only table from codes to HTTP statuses."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from modelyard.core.errors import RequestError

MEDIA_TYPE = "application/problem+json"

STATUS: dict[str, HTTPStatus] = {
    "malformed": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "model_not_found": HTTPStatus.NOT_FOUND,
    "version_not_found": HTTPStatus.NOT_FOUND,
    "job_not_found": HTTPStatus.NOT_FOUND,
    "not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "conflict": HTTPStatus.CONFLICT,
    "not_acceptable": HTTPStatus.NOT_ACCEPTABLE,
    "too_slow": HTTPStatus.REQUEST_TIMEOUT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "wrong_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "invalid_input": HTTPStatus.UNPROCESSABLE_ENTITY,
    "headers_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
    "model_failed": HTTPStatus.BAD_GATEWAY,
    "model_crashed": HTTPStatus.BAD_GATEWAY,
    "object_lost": HTTPStatus.BAD_GATEWAY,
    "stream_broken": HTTPStatus.BAD_GATEWAY,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "shutting_down": HTTPStatus.SERVICE_UNAVAILABLE,
    "client_gone": HTTPStatus.SERVICE_UNAVAILABLE,  # no client receives it
    "cancelled": HTTPStatus.SERVICE_UNAVAILABLE,  # nor this
    "deadline_exceeded": HTTPStatus.GATEWAY_TIMEOUT,
    "calls_too_deep": HTTPStatus.LOOP_DETECTED,
}


class NotThere(RequestError):
    """The path is none of the server's, or none for this caller."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """The method is not POST."""

    code = "method_not_allowed"


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A problem document. ``code`` is stable; ``where`` is a JSON path into the request."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    where: str | None = None

    @property
    def body(self) -> bytes:
        """The JSON, with ``type`` even though it is the default."""
        fields = msgspec.to_builtins(self)
        return msgspec.json.encode({"type": self.type, **fields})


# As RFC 9110 has them: Python's own differ from version to version.
_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}


def phrase_of(status: int) -> str:
    """Return the reason phrase of a status."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def problem_of(error: RequestError, *, request_id: str) -> Problem:
    """Return the document of an error."""
    status = STATUS[error.code]
    return Problem(
        title=phrase_of(status.value),
        status=status.value,
        code=error.code,
        detail=error.detail,
        request_id=request_id,
        where=error.where,
    )
