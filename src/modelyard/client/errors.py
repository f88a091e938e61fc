"""The one tree of what a call can raise.

    ModelyardError               has ``code``, ``detail``, ``where``, ``request_id``, ``status``
    ├── Refused                  4xx: the same request would be refused again
    │   ├── Malformed · InvalidInput · TooLarge · WrongMediaType
    │   ├── Unauthenticated · Forbidden
    │   ├── ModelNotFound · VersionNotFound · JobNotFound
    │   ├── NotAcceptable        406: the model gives no pieces
    │   ├── Conflict             409: of a job, that it is in another state than it would have to be
    │   └── RateLimited          429: this client's own limit; ``retry_after_s`` says when
    ├── ModelFailed              502: the model raised, or broke its contract
    ├── ModelCrashed             502: the request took the model's process down, also alone
    ├── ObjectLost               502: a job's input or result is not in the object store any more
    ├── StreamBroken             502: an answer in pieces ended early
    ├── Unavailable              503: no capacity; was retried, in vain
    │   ├── ModelNotReady · Overloaded · ShuttingDown
    │   └── ConnectionFailed     no answer at all: refused, reset, no such host; was retried too
    ├── DeadlineExceeded         504, or ``timeout_s`` passed here without an answer
    └── UnexpectedAnswer         what answered is no gateway of Modelyard, or a broken one

``code`` is the problem document's, and stable. A code that this version does not know becomes the
nearest class by its status, so an older client works with a newer gateway. Arguments that could
never work are a ValueError or a TypeError, before anything is sent.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

LONGEST_EXCERPT = 200
"""Characters of an answer that is no problem document, for the error's text."""


class ModelyardError(Exception):
    """A call has no answer.

    Attributes:
        code: What happened, for programs: ``invalid_input``, ``overloaded``, …
        detail: What happened, for people.
        where: The JSON path of what is wrong in the request, as ``$.input_data[0]``.
        request_id: What the gateway's logs call the request; None if it never answered.
        status: The HTTP status; None if there was no answer.
        retry_after_s: When another try makes sense, if the gateway said so.
    """

    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        where: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code or self.default_code
        self.detail = detail
        self.where = where
        self.request_id = request_id
        self.status = status
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        name = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.detail}{place}{name}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments would not survive the way out of a process pool.
        return type(self), (self.detail,), self.__dict__


class Refused(ModelyardError):
    """The request is at fault: the same one would be refused again."""

    default_code = "refused"


class Malformed(Refused):
    """The request is not well-formed: numbers out of range, nested too deep."""

    default_code = "malformed"


class InvalidInput(Refused):
    """The instances are not what the model accepts; ``where`` names the place."""

    default_code = "invalid_input"


class TooLarge(Refused):
    """The body is over the gateway's limit."""

    default_code = "too_large"


class WrongMediaType(Refused):
    """The gateway does not read this form."""

    default_code = "wrong_media_type"


class Unauthenticated(Refused):
    """There is no key, or one that the gateway does not know."""

    default_code = "unauthenticated"


class Forbidden(Refused):
    """The key may not do this."""

    default_code = "forbidden"


class ModelNotFound(Refused):
    """No model has this name."""

    default_code = "model_not_found"


class VersionNotFound(Refused):
    """The model exists, this version of it does not."""

    default_code = "version_not_found"


class JobNotFound(Refused):
    """There is no such job, or none that this key may see."""

    default_code = "job_not_found"


class Conflict(Refused):
    """A job is in another state than it would have to be, or another has its name."""

    default_code = "conflict"


class NotAcceptable(Refused):
    """The answer was wanted in pieces, and the model gives none."""

    default_code = "not_acceptable"


class RateLimited(Refused):
    """This client asks more than it may."""

    default_code = "rate_limited"


class ModelFailed(ModelyardError):
    """The model raised, or returned something other than one prediction per instance."""

    default_code = "model_failed"


class ModelCrashed(ModelyardError):
    """The request took the model's process down, also when it ran alone."""

    default_code = "model_crashed"


class ObjectLost(ModelyardError):
    """The input or result of a job is not in the object store any more, or is another one."""

    default_code = "object_lost"


class StreamBroken(ModelyardError):
    """A streamed answer ended early; some of its pieces have come."""

    default_code = "stream_broken"


class Unavailable(ModelyardError):
    """There was no capacity for the request, as often as it was tried."""

    default_code = "unavailable"


class ModelNotReady(Unavailable):
    """The model exists and has no process that is up."""

    default_code = "model_not_ready"


class Overloaded(Unavailable):
    """As many requests as the model takes are in progress already."""

    default_code = "overloaded"


class ShuttingDown(Unavailable):
    """The gateway is stopping."""

    default_code = "shutting_down"


class ConnectionFailed(Unavailable):
    """There was no answer: the connection was refused or reset, or the host has no address."""

    default_code = "connection_failed"


class DeadlineExceeded(ModelyardError):
    """The deadline passed before there was an answer, there or here."""

    default_code = "deadline_exceeded"


class UnexpectedAnswer(ModelyardError):
    """The answer is none that a gateway gives."""

    default_code = "unexpected_answer"


def _below(base: type[ModelyardError]) -> list[type[ModelyardError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _below(child))]


_BY_CODE = {error.default_code: error for error in _below(ModelyardError)}
_BY_STATUS: dict[int, type[ModelyardError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    406: NotAcceptable,
    409: Conflict,
    413: TooLarge,
    415: WrongMediaType,
    422: InvalidInput,
    429: RateLimited,
    503: Unavailable,
    504: DeadlineExceeded,
}
STATUS: dict[type[ModelyardError], int] = {
    **{error: status for status, error in _BY_STATUS.items()},
    **dict.fromkeys((ModelNotFound, VersionNotFound, JobNotFound), 404),
    **dict.fromkeys((ModelFailed, ModelCrashed, ObjectLost, StreamBroken), 502),
    **dict.fromkeys((ModelNotReady, Overloaded, ShuttingDown, ConnectionFailed), 503),
}
"""The status of each error that a gateway answers with."""


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The part of a problem document (RFC 9457) that errors carry."""

    code: str
    detail: str
    status: int
    request_id: str | None = None
    where: str | None = None


def error_of(status: int, body: bytes, *, retry_after_s: float | None) -> ModelyardError:
    """Return the error for a response other than 2xx, whether a gateway or a proxy sent it."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _error_without_document(status, body, retry_after_s)
    kind = _BY_CODE.get(problem.code) or _nearest(status)
    return kind(
        problem.detail,
        code=problem.code,
        where=problem.where,
        request_id=problem.request_id,
        status=status,
        retry_after_s=retry_after_s,
    )


def _error_without_document(
    status: int, body: bytes, retry_after_s: float | None
) -> ModelyardError:
    """A proxy between here and the gateway answers for itself."""
    text = " ".join(body.decode("utf-8", "replace").split())[:LONGEST_EXCERPT]
    kind = _BY_STATUS.get(status, UnexpectedAnswer)
    detail = f"answered {status} without a problem document" + (f": {text}" if text else "")
    return kind(detail, status=status, retry_after_s=retry_after_s)


def _nearest(status: int) -> type[ModelyardError]:
    return _BY_STATUS.get(status) or (Refused if 400 <= status < 500 else ModelyardError)
