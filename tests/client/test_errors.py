"""Problem documents as exceptions."""

from __future__ import annotations

import pickle

import msgspec
import pytest

import modelyard.client.errors
from modelyard.client import (
    InvalidInput,
    ModelyardError,
    Overloaded,
    RateLimited,
    Refused,
    Unavailable,
    UnexpectedAnswer,
)
from modelyard.client.errors import error_of
from modelyard.core.errors import BY_CODE
from modelyard.gateway.problems import STATUS, problem_of

NOT_FOR_MODELS = {
    # What only a client that is not ours can provoke, and what nobody is there to see.
    *("not_found", "method_not_allowed", "too_slow", "headers_too_large", "client_gone"),
    "cancelled",  # its owner knows
    *("internal", "conflict"),  # the last is the registry's
    "calls_too_deep",  # what a model gets that calls another one
}


@pytest.mark.parametrize("code", sorted(BY_CODE.keys() - NOT_FOR_MODELS))
def test_each_code_of_the_gateway_has_a_class(code: str) -> None:
    problem = problem_of(BY_CODE[code]("it happened", where="$.input_data"), request_id="7")
    error = error_of(problem.status, problem.body, retry_after_s=None)
    assert error.default_code == code
    assert (error.code, error.detail, error.where) == (code, "it happened", "$.input_data")
    assert (error.request_id, error.status) == ("7", STATUS[code].value)
    assert modelyard.client.errors.STATUS[type(error)] == STATUS[code].value


def test_an_error_says_all_that_is_known() -> None:
    document = {"code": "invalid_input", "detail": "Expected `int`", "status": 422}
    body = msgspec.json.encode({**document, "where": "$.input_data[0]", "request_id": "7", "x": 1})
    error = error_of(422, body, retry_after_s=None)
    assert isinstance(error, InvalidInput)
    assert str(error) == "invalid_input: Expected `int` at $.input_data[0] (request 7)"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(422, InvalidInput), (429, RateLimited), (410, Refused), (503, Unavailable)],
)
def test_a_code_of_the_future_is_the_nearest_class(status: int, kind: type[Exception]) -> None:
    body = msgspec.json.encode({"code": "brand_new", "detail": "it happened", "status": status})
    error = error_of(status, body, retry_after_s=3.0)
    assert type(error) is kind
    assert (error.code, error.detail, error.retry_after_s) == ("brand_new", "it happened", 3.0)


def test_an_internal_error_is_of_no_other_class() -> None:
    body = msgspec.json.encode({"code": "internal", "detail": "it happened", "status": 500})
    assert type(error_of(500, body, retry_after_s=None)) is ModelyardError


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Unavailable), (502, UnexpectedAnswer), (404, UnexpectedAnswer)]
)
@pytest.mark.parametrize("body", [b"", b"\xff", b"<html>\n bad  gateway", b"[]", b'{"code": 1}'])
def test_a_proxy_that_answers_for_itself_is_quoted(
    status: int, kind: type[Exception], body: bytes
) -> None:
    error = error_of(status, body, retry_after_s=None)
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, None)
    assert f"answered {status} without a problem document" in error.detail
    assert ("<html> bad gateway" in error.detail) == (b"html" in body)
    assert len(error_of(status, b"x" * 10_000, retry_after_s=None).detail) < 300


def test_an_error_survives_the_way_out_of_a_process_pool() -> None:
    error = Overloaded("full", request_id="7", status=503, retry_after_s=1.0)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is Overloaded
    assert (str(again), vars(again)) == (str(error), vars(error))
