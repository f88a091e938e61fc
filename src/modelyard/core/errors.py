"""The one tree of what can go wrong with a request.

    RequestError                 has a stable ``code``, the same on every wire and in every metric
    ├── Malformed                not JSON, or numbers and strings that no type could hold
    ├── InvalidInput             JSON, but not what the model accepts; ``where`` names the place
    ├── TooLarge · WrongMediaType · TooSlow
    ├── ModelNotFound · VersionNotFound
    ├── ModelFailed              the model raised, or broke its contract
    ├── ModelCrashed             the request took its runner down again, alone
    ├── Unavailable              no capacity: ModelNotReady · Overloaded · ShuttingDown
    ├── DeadlineExceeded
    └── GivenUp                  nobody waits for the answer any more

Codes become HTTP statuses in one place, ``gateway/problems.py``. Across a socket or a queue an
error travels as a ``Failure`` and comes back as the same class.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

LONGEST_TEXT = 2000
"""Characters. An error may quote what it was sent, and that may be megabytes."""


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A RequestError on a wire."""

    code: str
    detail: str
    where: str | None = None
    retry_after_s: int | None = None


class RequestError(Exception):
    """One request cannot be answered with a prediction.

    ``detail`` is a sentence for the caller; ``where`` is a JSON path into the request;
    ``retry_after_s`` (seconds) says when another try makes sense.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, where: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.detail = _cut(detail)
        self.where = where and _cut(where)
        super().__init__(self.detail)
        self.retry_after_s = retry_after_s

    def to_failure(self) -> Failure:
        """Give the form that travels."""
        return Failure(self.code, self.detail, self.where, self.retry_after_s)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


class Malformed(RequestError):
    """The request is not well-formed in its form: not UTF-8, nested too deep, out of range."""

    code = "malformed"


class InvalidInput(RequestError):
    """The request is well-formed, but not what the model accepts.

    A model raises it from ``predict`` to refuse what no type can tell: ``raise InvalidInput("the
    image is damaged", instance=3)``. The caller gets 422 with these words. Others whose instances
    were in the same batch are answered.

    Args:
        detail: A sentence for the caller.
        where: A JSON path into the request, if the place is not a whole instance.
        retry_after_s: Not used here.
        instance: Which of the instances that ``predict`` got, from 0. The caller sees it counted
            from the first of its own.
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
    """The body is over the limit: declared, received or inflated."""

    code = "too_large"


class WrongMediaType(RequestError):
    """The content type or encoding is none that we read."""

    code = "wrong_media_type"


class TooSlow(RequestError):
    """The client took too long to send its request."""

    code = "too_slow"


class ModelNotFound(RequestError):
    """No model has this name."""

    code = "model_not_found"


class VersionNotFound(RequestError):
    """The model exists, this version of it does not."""

    code = "version_not_found"


class ModelFailed(RequestError):
    """The model raised, or returned something other than one prediction per instance."""

    code = "model_failed"


class ModelCrashed(RequestError):
    """The request took its runner down, also when it ran alone."""

    code = "model_crashed"


class Unavailable(RequestError):
    """There is no capacity for the request now; another try may find some."""

    code = "unavailable"

    def __init__(self, detail: str, *, where: str | None = None, retry_after_s: int | None = 1):
        super().__init__(detail, where=where, retry_after_s=retry_after_s)


class ModelNotReady(Unavailable):
    """The model exists and has no runner that is up."""

    code = "model_not_ready"


class Overloaded(Unavailable):
    """As many requests as the model takes are under way already."""

    code = "overloaded"


class ShuttingDown(Unavailable):
    """The process that held the request is stopping."""

    code = "shutting_down"


class DeadlineExceeded(RequestError):
    """The deadline passed before there was an answer."""

    code = "deadline_exceeded"


class GivenUp(RequestError):
    """Who asked has left, or asks elsewhere: nobody waits for the answer any more.

    The code is what metrics show; nobody is there to see it.
    """

    code = "client_gone"


def _concrete(base: type[RequestError]) -> list[type[RequestError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _concrete(child))]


BY_CODE: dict[str, type[RequestError]] = {error.code: error for error in _concrete(RequestError)}


def from_failure(failure: Failure) -> RequestError:
    """Give the exception that ``failure`` was made from."""
    return BY_CODE.get(failure.code, RequestError)(
        failure.detail, where=failure.where, retry_after_s=failure.retry_after_s
    )
