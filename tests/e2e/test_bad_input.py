"""Bad input: the status of each, with a problem document, and never a 500."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.support.raw import Answer, ask, request_bytes
from tests.support.server import ROOT, Server

GOOD = b'{"model_name":"fast_iris_model","input_data":[[5.1,3.5,1.4,0.2]]}'
LIMIT = 8 * 1024 * 1024
MODEL = ROOT / "models" / "fast_iris_model"


def envelope(input_data: str, **more: str) -> bytes:
    """Give a body whose values are raw JSON."""
    fields = {"model_name": '"fast_iris_model"', "input_data": input_data, **more}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def check(answer: Answer, status: int, code: str) -> None:
    """The answer is a whole problem document."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"]


MALFORMED = {
    "empty": b"",
    "truncated": GOOD[:-5],
    "trailing": GOOD + b"x",
    "not JSON": b"hello",
    "not UTF-8": envelope('[["\xff"]]').replace("\xff".encode(), b"\xff"),
    "not UTF-8 in a name": b'{"model_name":"\xff","input_data":[[1]]}',
    "lone surrogate": envelope('["\\ud800"]'),
    "lone surrogate before text": envelope('[["\\ud800 and more text"]]'),
    "NaN": envelope("[[NaN,1,1,1]]"),
    "Infinity": envelope("[[Infinity,1,1,1]]"),
    "1e999": envelope("[[1e999,1,1,1]]"),
    "1e999 where no number belongs": envelope('"x"', timeout_s="1e999"),
    "5,000 digits": envelope(f"[[{'9' * 5000},1,1,1]]"),
    "65 levels": envelope("[" * 65 + "]" * 65),
    "200 levels": envelope("[" * 200 + "]" * 200),
    "1,000,000 levels": envelope("[" * 1_000_000 + "]" * 1_000_000),
    "1,000,000 levels, open": b'{"input_data":' + b"[" * 1_000_000,
    "an open string of escapes": b"[" * 65 + b'"' + b'\\"' * 2_000_000,
    "levels of objects": envelope('{"a":' * 100 + "1" + "}" * 100),
    "timeout_s NaN": envelope("[[1,1,1,1]]", timeout_s="NaN"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(iris: Server, body: bytes) -> None:
    check(ask(iris.url, request_bytes(body)), 400, "malformed")


@pytest.mark.parametrize("timeout_s", ["-1", "0", "3600.1", "1e12", '"1"', "true", "[1]"])
def test_a_timeout_that_is_none_is_malformed_and_named(iris: Server, timeout_s: str) -> None:
    answer = ask(iris.url, request_bytes(envelope("[[1,1,1,1]]", timeout_s=timeout_s)))
    check(answer, 400, "malformed")
    assert answer.json["where"] == "$.timeout_s"


INVALID = {
    "wrong type": (envelope('[["a",1,1,1]]'), "$.input_data[0][0]"),
    "wrong shape": (envelope("[[1,1,1]]"), "$.input_data[0]"),
    "ragged": (envelope("[[1,1,1,1],[1,1]]"), "$.input_data[1]"),
    "no list": (envelope("5"), "$.input_data"),
    "null": (envelope("null"), "$.input_data"),
    "an instance, no list of them": (envelope("[1,1,1,1]"), "$.input_data[0]"),
    "no instances": (envelope("[]"), "$.input_data"),
    "64 levels": (envelope("[" * 63 + "]" * 63), "$.input_data[0][0]"),
    "missing field": (b'{"model_name":"fast_iris_model"}', "$"),
    "unknown field": (envelope("[[1,1,1,1]]", colour='"red"'), "$"),
    "name of a wrong type": (b'{"model_name":5,"input_data":[[1,1,1,1]]}', "$.model_name"),
    "priority unknown": (envelope("[[1,1,1,1]]", priority='"urgent"'), "$.priority"),
    "a list": (b"[]", "$"),
}


@pytest.mark.parametrize(("body", "where"), INVALID.values(), ids=INVALID)
def test_invalid_input_names_where(iris: Server, body: bytes, where: str) -> None:
    answer = ask(iris.url, request_bytes(body))
    check(answer, 422, "invalid_input")
    assert answer.json["where"] == where


NO_NAMES = [
    "nobody",
    "../x",
    "..%2f..",
    "%2e%2e",
    "%00",
    "\u2024\u2024/x",
    "x" * 300,
    "",
    "A",
    "a\n",
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_unknown_models(iris: Server, name: str) -> None:
    body = json.dumps({"model_name": name, "input_data": [[1, 1, 1, 1]]}).encode()
    check(ask(iris.url, request_bytes(body)), 404, "model_not_found")


@pytest.mark.parametrize("version", ["2", "../1", "x" * 300])
def test_unknown_versions(iris: Server, version: str) -> None:
    body = envelope("[[1,1,1,1]]", model_version=json.dumps(version))
    check(ask(iris.url, request_bytes(body)), 404, "version_not_found")


@pytest.mark.parametrize(
    "path",
    [
        *("/models/nobody", "/models/../x", "/models/%2e%2e", "/models/%00", "/models/%E2%80%A4"),
        *("/models/" + "x" * 300, "/models/..%2f..%2fetc%2fpasswd"),
        *("/no", "/static-offline-docs/../core.py"),
    ],
)
def test_unknown_paths(iris: Server, path: str) -> None:
    answer = ask(iris.url, request_bytes(b"", path=path, method="GET"))
    assert answer.status == 404, answer
    assert answer.json["code"] in ("model_not_found", "not_found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_methods(iris: Server, method: str) -> None:
    answer = ask(iris.url, request_bytes(b"", method=method))
    check(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    check(ask(iris.url, request_bytes(b"", path="/models")), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "header",
    [
        *("content-type: text/plain", "content-type: application/x-www-form-urlencoded"),
        *("content-type: application/jsonx", "content-type:", "content-encoding: br"),
    ],
)
def test_wrong_content_types_and_encodings(iris: Server, header: str) -> None:
    check(ask(iris.url, request_bytes(GOOD, header)), 415, "wrong_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_content_types_with_parameters_are_fine(iris: Server, kind: str) -> None:
    assert ask(iris.url, request_bytes(GOOD, f"content-type: {kind}")).status == 200


def chunked(body: bytes, size: int = 60_000) -> bytes:
    """Give ``body`` in chunks."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_too_large_as_declared(iris: Server) -> None:
    head = request_bytes(b"", f"content-length: {LIMIT + 1}")
    check(ask(iris.url, head), 413, "too_large")


def test_too_large_in_chunks(iris: Server) -> None:
    body = chunked(b" " * (LIMIT + 1))
    head = request_bytes(b"", "transfer-encoding: chunked")
    check(ask(iris.url, head + body), 413, "too_large")


def test_too_large_when_inflated(iris: Server) -> None:
    bomb = gzip.compress(b" " * (LIMIT * 10), mtime=0)
    check(ask(iris.url, request_bytes(bomb, "content-encoding: gzip")), 413, "too_large")


def test_gzip_and_chunks_within_the_limit(iris: Server) -> None:
    for request in (
        request_bytes(gzip.compress(GOOD, mtime=0), "content-encoding: gzip"),
        request_bytes(b"", "transfer-encoding: chunked") + chunked(GOOD, 7),
        request_bytes(b" " * (LIMIT - len(GOOD)) + GOOD),
    ):
        answer = ask(iris.url, request)
        assert answer.status == 200, answer
        assert answer.json["prediction"] == [0]


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(GOOD, mtime=0)[:-9], gzip.compress(GOOD, mtime=0) + b"x"]
)
def test_damaged_gzip(iris: Server, body: bytes) -> None:
    check(ask(iris.url, request_bytes(body, "content-encoding: gzip")), 400, "malformed")


def test_huge_headers(iris: Server) -> None:
    for header in ("x-long: " + "x" * 40_000, "x-long: " + "x" * 400_000):
        check(ask(iris.url, request_bytes(GOOD, header)), 431, "headers_too_large")
    many = [f"x-{number}: {'x' * 100}" for number in range(1000)]
    check(ask(iris.url, request_bytes(GOOD, *many)), 431, "headers_too_large")


def test_slow_headers_and_bodies() -> None:
    hasty = {"MODELYARD_HEADER_TIMEOUT_S": "0.3", "MODELYARD_BODY_TIMEOUT_S": "0.3"}
    with Server(MODEL, settings=hasty) as server:
        check(ask(server.url, request_bytes(GOOD)[:30]), 408, "too_slow")
        check(ask(server.url, request_bytes(GOOD)[:-10]), 408, "too_slow")
        check(ask(server.url, request_bytes(GOOD)[: -len(GOOD)]), 408, "too_slow")
        assert ask(server.url, request_bytes(GOOD)).status == 200


def test_what_is_no_http(iris: Server) -> None:
    check(ask(iris.url, b"hello there\r\n\r\n"), 400, "malformed")


def test_a_request_id_comes_back_if_it_is_usable(iris: Server) -> None:
    assert (
        ask(iris.url, request_bytes(GOOD, "x-request-id: abc-1")).headers["x-request-id"] == "abc-1"
    )
    bad = request_bytes(b"{", "x-request-id: abc-2")
    assert ask(iris.url, bad).json["request_id"] == "abc-2"
    for unusable in ("x" * 129, "a\tb", "\xe9"):
        answer = ask(iris.url, request_bytes(GOOD, f"x-request-id: {unusable}"))
        assert answer.status == 200
        assert answer.headers["x-request-id"] not in ("", unusable)


def test_metrics_stay_bounded_whatever_clients_send(iris: Server) -> None:
    for number in range(50):
        iris.predict(f"stranger-{number}", [[1, 1, 1, 1]])
        iris.predict("fast_iris_model", [[1, 1, 1, 1]], model_version=f"v{number}")
    text = iris.http.get("/metrics").text
    assert "stranger" not in text
    assert 'version="v' not in text
    assert iris.metric("modelyard_requests_total", code="model_not_found", model="") >= 50


def test_after_all_this_it_still_answers_and_never_said_500(iris: Server) -> None:
    assert iris.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]]).json()["prediction"] == [0]
    assert iris.metric("modelyard_requests_total", code="internal") == 0
    assert "Traceback" not in iris.output
