"""Every error travels as a failure, comes back as itself, and has a status."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
import pytest

from modelyard.core.errors import Failure, RequestError, Unavailable, from_failure
from modelyard.gateway.heads import HeadTooLargeError
from modelyard.gateway.problems import STATUS, MethodNotAllowed, problem_of


def tree(base: type[RequestError]) -> list[type[RequestError]]:
    return [base, *(error for child in base.__subclasses__() for error in tree(child))]


TRAVELLING = [kind for kind in tree(RequestError) if kind.__module__ == RequestError.__module__]
EVERY: list[type[RequestError]] = [
    *TRAVELLING,
    MethodNotAllowed,
    HeadTooLargeError,
]  # those two are answered where they arise
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110's, from Python 3.13


def test_codes_are_unique() -> None:
    assert len({error.code for error in EVERY}) == len(EVERY)


@pytest.mark.parametrize("kind", TRAVELLING)
@pytest.mark.parametrize("where", [None, "$.input_data[0]"])
@pytest.mark.parametrize("retry_after_s", [None, 7])
def test_an_error_survives_the_wire(
    kind: type[RequestError], where: str | None, retry_after_s: int | None
) -> None:
    sent = kind("It did not work: not at all, Zoë.", where=where, retry_after_s=retry_after_s)
    wire = msgspec.msgpack.encode(sent.to_failure())
    received = from_failure(msgspec.msgpack.decode(wire, type=Failure))
    assert type(received) is kind
    assert str(received) == received.detail == sent.detail
    assert (received.where, received.retry_after_s) == (where, retry_after_s)


@pytest.mark.parametrize("kind", EVERY)
def test_every_code_has_a_status(kind: type[RequestError]) -> None:
    problem = problem_of(kind("No.", where="$.a"), request_id="r1")
    status = STATUS[kind.code]
    assert status >= HTTPStatus.BAD_REQUEST
    assert msgspec.json.decode(problem.body) == {
        "type": "about:blank",
        "title": PHRASES.get(status, status.phrase),
        "status": status.value,
        "code": kind.code,
        "detail": "No.",
        "request_id": "r1",
        "where": "$.a",
    }


def test_only_unavailability_invites_another_try() -> None:
    inviting = {kind for kind in EVERY if kind("No.").retry_after_s is not None}
    assert inviting == set(tree(Unavailable))
    assert {STATUS[kind.code] for kind in inviting} == {HTTPStatus.SERVICE_UNAVAILABLE}


def test_a_code_from_a_newer_version_is_an_internal_error() -> None:
    error = from_failure(Failure("not_invented_yet", "It did not work."))
    assert type(error) is RequestError
    assert (error.code, error.detail) == ("internal", "It did not work.")
