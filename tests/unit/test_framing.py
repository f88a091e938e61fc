"""What surrounds a request: heads and chunks that are damaged, doubtful or too large."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.gateway.body import FRAMING_BYTES
from modelyard.gateway.heads import MAX_HEAD_BYTES, HeadParser
from tests.unit.http import MAX_BODY_BYTES, Gateway
from tests.unit.wire import QUESTION, chunked, request

HEAD = request(b"", "transfer-encoding: chunked", "content-type: application/json")


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 38", "content-length: 38"),
        ("content-length: 38", "Content-Length: 39"),
        ("content-length: 38, 38",),
        ("content-length: +38",),
        ("content-length: 0x26",),
        ("content-length: -1",),
        ("content-length: 99999999999999999999999",),
        ("content-length:",),
        ("content-length : 38",),
        ("content-length: 38", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 38"),
        ("transfer-encoding:",),
        ("transfer-encoding: gzip",),
        ("transfer-encoding: chunked, gzip",),
        ("transfer-encoding: chunked", "transfer-encoding: identity"),
        ("a header",),
        ("a: b\nc: d",),
        ("a: b\0c",),
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_head_that_two_could_read_differently_is_refused(
    lines: tuple[str, ...], is_cut: bool
) -> None:
    client = Gateway().connect()
    whole = request(b"", *lines) + QUESTION
    await client.send(whole, step=3 if is_cut else 0)
    assert [(a.status, a.code) for a in client.answers] == [(400, "malformed")]
    assert client.answers[0].headers["connection"] == "close"


async def test_a_length_that_was_known_once_is_not_known_twice() -> None:
    client = Gateway().connect()
    assert (await client.ask(request())).status == 200
    doubled = request().replace(b"\r\n\r\n", b"\r\ncontent-length: 38\r\n\r\n")
    assert (await client.ask(doubled)).status == 400


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /page\r\n\r\n", 400),  # HTTP/0.9
        (b"GET http://gateway/page HTTP/1.1\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 200),
        (b"CONNECT gateway:80 HTTP/1.1\r\nhost: gateway\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /page HTTP/3.0\r\n\r\n", 400),
        (b"get /page HTTP/1.1\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200),
        (b"GET /page HTTP/1.1\r\nhost:\r\n\r\n", 200),  # as of a target without authority
        (b"GET /page HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        (b"GET /page HTTP/1.0\r\nhost: a/b\r\n\r\n", 400),
        (b"GET /a page HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_a_request_line(asked: bytes, status: int) -> None:
    client = Gateway().connect()
    await client.send(asked)
    assert [answer.status for answer in client.answers] == [status]


@pytest.mark.parametrize("line", ["content-length: 12", "transfer-encoding: chunked"])
async def test_connect_with_a_body_is_refused_rather_than_its_body_read_as_a_head(
    line: str,
) -> None:
    client = Gateway().connect()
    head = f"CONNECT gateway:80 HTTP/1.1\r\nhost: gateway\r\n{line}\r\n\r\n"
    await client.send(head.encode() + b"no head here")
    assert client.codes == ["malformed"]


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\n"])
def test_connect_is_not_taken_for_another_method(before: bytes) -> None:
    head = HeadParser().parse(before + b"CONNECT gateway:80 HTTP/1.1\r\nhost: gateway\r\n\r\n")
    assert head is not None
    assert head.method == b"CONNECT"


async def test_a_path_is_decoded_before_it_is_looked_at() -> None:
    client = Gateway().connect()
    assert (await client.ask(request(path="/%70redict?x=1"))).json["prediction"] == [1]
    named = b'{"input_data":[2]}'
    answer = await client.ask(request(named, path="/models/%69ris/versions/1/predict"))
    assert answer.json["prediction"] == [2]
    assert (await client.ask(request(path="/models/a%2fb/predict"))).json["path"]


@pytest.mark.parametrize("is_cut", [False, True])
async def test_headers_may_have_so_many_bytes(is_cut: bool) -> None:
    rest = MAX_HEAD_BYTES - len(request(b"", "a: ", method="GET", path="/page"))
    step = 5000 if is_cut else 0
    client = Gateway().connect()
    await client.send(request(b"", f"a: {'x' * rest}", method="GET", path="/page"), step=step)
    await client.send(request(b"", f"a: {'x' * rest}x", method="GET", path="/page"), step=step)
    assert [answer.status for answer in client.answers] == [200, 431]
    assert client.answers[1].code == "headers_too_large"


async def test_headers_that_do_not_end_are_refused_before_they_fill_the_memory() -> None:
    client = Gateway().connect()
    await client.send(b"GET /page HTTP/1.1\r\na: " + b"x" * MAX_HEAD_BYTES)
    assert client.codes == ["headers_too_large"]


# Chunks.

sizes = st.lists(st.integers(1, 12), min_size=1, max_size=20)


@settings(max_examples=50)
@given(sizes, st.integers(1, 40))
def test_a_body_in_chunks_is_what_was_in_them(lengths: list[int], step: int) -> None:
    instances = list(range(len(lengths)))
    body = json.dumps({"model_name": "iris", "input_data": instances}).encode()
    pieces = []
    for length in lengths:
        pieces.append(body[:length])
        body = body[length:]
    whole = chunked(*filter(None, [*pieces, body]))

    async def scenario() -> None:
        client = Gateway().connect()
        await client.send(whole, step=step)
        assert client.answers[0].json["prediction"] == instances

    asyncio.run(scenario())


async def test_chunks_may_have_extensions_capitals_zeros_and_trailers() -> None:
    client = Gateway().connect()
    body = b'{"model_name":"iris","input_data":[1,2]}     '
    assert len(body) == 0x2D
    await client.send(
        HEAD + b"02D;name=value\r\n" + body + b"\r\n0\r\nx-sum: 1\r\n\r\n" + request()
    )
    assert [answer.json["prediction"] for answer in client.answers] == [[1, 2], [1]]


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\r\n5\r\nhello\r\n",
        b"5\r\nhelloworld\r\n",
        b"5\r\nhello5\r\nworld\r\n",
        b"5\nhello\n0\n\n",
        b"fffffffffffffffff\r\n",
        b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [0, 1])
async def test_chunks_that_are_none_are_refused(chunks: bytes, step: int) -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.send(HEAD + chunks, step=step)
    assert client.codes == ["malformed"]
    assert client.answers[0].headers["connection"] == "close"
    assert gateway.metrics.codes == {"malformed": 1}


async def test_a_chunked_body_over_the_limit_is_refused_when_it_gets_there() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.send(HEAD)
    for _ in range(MAX_BODY_BYTES // 65536):
        await client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert client.answers == []
    await client.send(b"1\r\nx\r\n")
    assert client.codes == ["too_large"]
    assert gateway.taken == 0


@pytest.mark.parametrize(
    "around",
    [
        b"1;" + b"x" * FRAMING_BYTES + b"\r\n",  # an extension
        b"0\r\na: " + b"x" * FRAMING_BYTES,  # a trailer
        b"1" + b"0" * 4 + b";" + b"x" * FRAMING_BYTES,
    ],
)
async def test_what_surrounds_chunks_is_bounded(around: bytes) -> None:
    client = Gateway().connect()
    await client.send(HEAD + around, step=50_000)
    assert client.codes == ["headers_too_large"]


async def test_a_body_in_the_smallest_chunks_is_read_however_large() -> None:
    client = Gateway().connect()
    body = b'{"model_name":"iris","input_data":[1]' + b" " * 100_000 + b"}"
    await client.send(chunked(*(body[n : n + 1] for n in range(len(body)))), step=100_000)
    assert client.codes == ["ok"]
