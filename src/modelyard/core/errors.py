"""The one tree of what can go wrong with a request.

    RequestError                 has a stable ``code``, the same on every wire and in every metric
    ├── Malformed                not JSON, or a number or string that no type can represent
    ├── InvalidInput             JSON, but not what the model accepts; ``where`` names the place
    ├── TooLarge · WrongMediaType · NotAcceptable · TooSlow
    ├── Unauthenticated          no valid key
    ├── Forbidden                a valid key, which may not do this
    ├── RateLimited              a valid key, which asks too much
    ├── ModelNotFound · VersionNotFound · JobNotFound
    ├── Conflict                 it is there already, and is another
    ├── ModelFailed              the model raised, or broke its contract
    ├── ModelCrashed             the model's process ended repeatedly while it ran the request
    ├── ObjectLost               a job's input or result is not where it was put, or damaged
    ├── StreamBroken             the answer ended after some pieces; the rest cannot be had
    ├── Unavailable              no capacity: ModelNotReady · Overloaded · ShuttingDown
    ├── DeadlineExceeded
    ├── CallsTooDeep             models call each other in a circle, or too many in a row
    └── GivenUp                  nobody waits for the answer any more: also Cancelled, of a job

Codes become HTTP statuses in one place, ``gateway/problems.py``. An error crosses a socket or a
queue as a ``Failure`` and becomes an exception of the same class on the other side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import msgspec

LONGEST_TEXT = 2000
"""Characters. An error may quote its input, which can be megabytes."""
_SERVERS_LOG = "the server's log for this request id"


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A RequestError as it is sent over a socket or through a queue."""

    code: str
    detail: str
    where: str | None = None
    retry_after_s: int | None = None


class RequestError(Exception):
    """One request cannot be answered with a prediction.

    ``detail`` is a sentence for the caller. ``where`` is a JSON path into the request.
    ``retry_after_s`` is the number of seconds to wait before a retry. ``headers`` are others that
    the answer has.
    """

    code: ClassVar[str] = "internal"
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, detail: str, *, where: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.detail = _cut(detail)
        self.where = where and _cut(where)
        super().__init__(self.detail)
        self.retry_after_s = retry_after_s

    def to_failure(self) -> Failure:
        """Return the serialisable form."""
        return Failure(self.code, self.detail, self.where, self.retry_after_s)


def as_request_error(
    error: Exception, log: logging.Logger, request_id: str, *, see: str = _SERVERS_LOG
) -> RequestError:
    """Return what is told of an exception. One that is no RequestError is a bug, which is logged:
    it has to fail this request, and no other. ``see``: where it is logged.
    """
    if isinstance(error, RequestError):
        return error.with_traceback(None)  # the traceback would keep the body alive
    log.error("unexpected_error", exc_info=error, extra={"id": request_id})
    return RequestError(f"internal error; see {see}")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


class Malformed(RequestError):
    """The request is not well-formed: not UTF-8, nested too deep, or a number out of range."""

    code = "malformed"


class InvalidInput(RequestError):
    """The request is well-formed, but not what the model accepts.

    A model raises it from ``predict`` to refuse an input that passes the type checks: ``raise
    InvalidInput("the image is damaged", instance=3)``. The caller gets a 422 with this text. Other
    callers in the same batch get their predictions.

    Args:
        detail: A sentence for the caller.
        where: A JSON path into the request, if the problem is not a whole instance.
        retry_after_s: Not used here.
        instance: Index of the instance within the batch that ``predict`` got, from 0. It is
            translated to an index into the caller's own instances.
    """

    code = "invalid_input"

    def __init__(
        self,
        detail: str,
        *,
        where: str | None = None,
        retry_after_s: int | None = None,
        instance: int | None = None,
    ) -> None:
        self.instance = instance
        if where is None and instance is not None:
            where = f"$.input_data[{instance}]"
        super().__init__(detail, where=where, retry_after_s=retry_after_s)


class TooLarge(RequestError):
    """The body is over the limit, by its declared, received or decompressed size."""

    code = "too_large"


class WrongMediaType(RequestError):
    """The content type or content encoding is not supported."""

    code = "wrong_media_type"


class NotAcceptable(RequestError):
    """The answer is wanted in pieces, and the model gives none."""

    code = "not_acceptable"


class TooSlow(RequestError):
    """The client took too long to send its request."""

    code = "too_slow"


class Unauthenticated(RequestError):
    """The request has no key, or none that is valid."""

    code = "unauthenticated"


class Forbidden(RequestError):
    """The key is valid, and lacks the scope."""

    code = "forbidden"


class RateLimited(RequestError):
    """The key has asked more than it may.

    ``policy``: which limit that is, as the header ``RateLimit-Policy`` says it; ``left``: how much
    of it is.
    """

    code = "rate_limited"

    def __init__(
        self,
        detail: str,
        *,
        where: str | None = None,
        retry_after_s: int | None = None,
        policy: str = "",
        left: int = 0,
    ) -> None:
        super().__init__(detail, where=where, retry_after_s=retry_after_s)
        if policy:
            name = policy.partition(";")[0]
            self.headers = {
                "ratelimit-policy": policy,
                "ratelimit": f"{name};r={left};t={retry_after_s}",
            }


class ModelNotFound(RequestError):
    """No model has this name, or none that the caller may see."""

    code = "model_not_found"


NO_MODEL = "no model has this name; GET /models lists all models"
"""The detail of ``ModelNotFound``, the same whatever the reason."""


class VersionNotFound(RequestError):
    """The model exists, this version of it does not."""

    code = "version_not_found"


class JobNotFound(RequestError):
    """There is no such job, or none that the caller may see."""

    code = "job_not_found"


class Conflict(RequestError):
    """It is there already with another content, or is in use."""

    code = "conflict"


class ModelFailed(RequestError):
    """The model raised, or returned something other than one prediction per instance."""

    code = "model_failed"


class ModelCrashed(RequestError):
    """The model's process ended repeatedly while it ran this request, at last on its own."""

    code = "model_crashed"


class ObjectLost(RequestError):
    """The input or result of a job is not in the object store any more, or is another one."""

    code = "object_lost"


class StreamBroken(RequestError):
    """A streamed answer ended early, because the process that gave it ended or cannot be reached.

    Pieces have gone to the client, so the request is not run again.
    """

    code = "stream_broken"


class Unavailable(RequestError):
    """There is no capacity for the request now; a retry may succeed."""

    code = "unavailable"

    def __init__(self, detail: str, *, where: str | None = None, retry_after_s: int | None = 1):
        super().__init__(detail, where=where, retry_after_s=retry_after_s)


class ModelNotReady(Unavailable):
    """The model exists, but no runner of it is up."""

    code = "model_not_ready"


class Overloaded(Unavailable):
    """The model's limit of requests in flight is reached, or its queue is full."""

    code = "overloaded"


class ShuttingDown(Unavailable):
    """The process that holds the request is shutting down."""

    code = "shutting_down"


class DeadlineExceeded(RequestError):
    """The deadline passed before there was an answer."""

    code = "deadline_exceeded"


class CallsTooDeep(RequestError):
    """Models call each other in a circle, or too many in a row."""

    code = "calls_too_deep"


class GivenUp(RequestError):
    """Nobody waits for the answer any more: the caller has left, or the request runs elsewhere.

    The code shows up in metrics only; no client receives it.
    """

    code = "client_gone"


class Cancelled(GivenUp):
    """The request is a job, and its owner has cancelled it.

    A model that has asked ``is_cancelled`` raises it from ``predict`` to stop.
    """

    code = "cancelled"

    def __init__(
        self,
        detail: str = "the job was cancelled",
        *,
        where: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail, where=where, retry_after_s=retry_after_s)


def _concrete(base: type[RequestError]) -> list[type[RequestError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _concrete(child))]


BY_CODE: dict[str, type[RequestError]] = {error.code: error for error in _concrete(RequestError)}


def from_failure(failure: Failure) -> RequestError:
    """Return ``failure`` as an exception of the class that it was made from."""
    return BY_CODE.get(failure.code, RequestError)(
        failure.detail, where=failure.where, retry_after_s=failure.retry_after_s
    )
