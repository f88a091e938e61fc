"""Bodies: large ones, compressed ones, files, and the room that all of them have together."""

from __future__ import annotations

import gzip
import json

import msgspec
import pytest

from modelyard.core.errors import ModelFailed
from modelyard.gateway.direct import DIRECT_BYTES, FIRST_BYTES
from modelyard.gateway.question import INLINE_PARSE_BYTES
from tests.unit.asking import settle
from tests.unit.http import MAX_BODY_BYTES, Gateway
from tests.unit.wire import QUESTION, chunked, request

FILE = {"path": "/models/iris/predict", "content_type": "image/png"}


def body_of(size: int, *, number: int = 1) -> bytes:
    """Give a body of this size; all but the number is white space."""
    begun = b'{"model_name":"iris","input_data":[%d]' % number
    return begun + b" " * (size - len(begun) - 1) + b"}"


def instances_of(count: int) -> bytes:
    """Give a body with so many instances of 9 bytes."""
    return b'{"model_name":"iris","input_data":[%b12345678]}' % (b"12345678," * (count - 1))


SIZES = [
    DIRECT_BYTES,
    DIRECT_BYTES + 1,
    INLINE_PARSE_BYTES,
    INLINE_PARSE_BYTES + 1,
    FIRST_BYTES,
    FIRST_BYTES + 1,
    2 * FIRST_BYTES + 1,
    MAX_BODY_BYTES,
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [0, 50_000, 300_000])
async def test_a_body_is_read_whatever_its_size_and_pieces(size: int, step: int) -> None:
    gateway = Gateway()
    client = gateway.connect()
    for number in range(3):
        await client.send(request(body_of(size, number=number)), step=step)
        await client.send(request())  # a small one by the same reader
    assert [a.json["prediction"] for a in client.answers] == [[0], [1], [1], [1], [2], [1]]
    assert gateway.taken == 0


async def test_a_head_and_a_large_body_come_in_pieces_once_one_was_read() -> None:
    client = Gateway().connect()
    await client.send(request(body_of(200_000)), step=40_000)
    await client.send(request(body_of(200_000, number=7), "x-long: " + "x" * 20_000), step=1000)
    await client.send(chunked(body_of(300_000, number=8)), step=9_000)
    assert [a.json["prediction"] for a in client.answers] == [[1], [7], [8]]


async def test_two_large_bodies_may_come_at_once() -> None:
    client = Gateway().connect()
    stream = b"".join(request(body_of(300_000, number=number)) for number in range(3))
    await client.send(stream)
    await settle()
    assert [a.json["prediction"] for a in client.answers] == [[0], [1], [2]]


async def test_a_body_that_says_to_be_over_the_limit_is_not_read() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.send(request(b"x", f"expect: {MAX_BODY_BYTES}").replace(b"th: 1", b"th: 9999999"))
    assert client.codes == ["too_large"]
    page = Gateway(has_endpoint=False).connect()
    await page.send(request(b"x", path="/page").replace(b"th: 1", b"th: 9999999"))
    assert page.codes == ["too_large"]


async def test_a_small_body_over_the_limit_leaves_the_connection_as_it_is() -> None:
    client = Gateway(max_body_bytes=40).connect()
    assert (await client.ask(request(body_of(41)))).code == "too_large"
    assert (await client.ask(request(path="/page"))).status == 200
    assert (await client.ask(request(body_of(41), path="/page"))).code == "too_large"
    assert (await client.ask(request())).status == 200


async def test_without_an_endpoint_all_are_pages() -> None:
    gateway = Gateway(has_endpoint=False, max_body_bytes=100)
    client = gateway.connect()
    assert (await client.ask(request())).json["path"] == "/predict"
    assert (await client.ask(request(b"x" * 101))).code == "too_large"
    await client.send(chunked(b"x" * 101))
    assert client.codes == ["ok", "too_large", "too_large"]


# The room that all bodies have together.


async def test_the_bodies_of_all_requests_have_so_much_room_together() -> None:
    gateway = Gateway(max_bodies_bytes=1_000_000, is_echoing=False)
    whole = request(body_of(400_000))
    first, second, third = (gateway.connect() for _ in range(3))
    await first.send(whole[:-1])
    await second.send(whole)
    await third.send(whole[:-1])
    assert third.answers[0].status == 503
    assert third.answers[0].code == "overloaded"
    assert third.answers[0].headers["connection"] == "close"
    await first.leave()
    assert gateway.taken == 400_000
    await gateway.answer()  # a request keeps its room until it is answered
    assert gateway.taken == 0
    assert (await second.ask(request(path="/page"))).status == 200


async def test_room_is_taken_as_a_body_comes_and_not_for_what_it_says_to_be() -> None:
    gateway = Gateway(max_bodies_bytes=3 * FIRST_BYTES)
    whole = request(body_of(MAX_BODY_BYTES))
    clients = [gateway.connect() for _ in range(3)]
    for client in clients:
        await client.send(whole[:1000])
    assert gateway.taken == 3 * FIRST_BYTES
    await clients[0].send(whole[1000:])
    assert clients[0].codes == ["overloaded"]
    assert gateway.taken == 2 * FIRST_BYTES


async def test_a_body_in_chunks_takes_room_however_small_they_are() -> None:
    gateway = Gateway(max_bodies_bytes=1_000_000)
    client = gateway.connect()
    whole = chunked(*[b"x" * 10_000] * 200)
    await client.send(whole[:500_000], step=16_384)
    assert 400_000 < gateway.taken <= 500_000
    await client.send(whole[500_000:], step=16_384)
    assert (client.codes, gateway.taken) == (["overloaded"], 0)


async def test_a_zipped_body_has_room_for_what_it_may_become() -> None:
    """Beside that for itself, as long as it is here."""
    gateway = Gateway(max_bodies_bytes=MAX_BODY_BYTES + 500_000, is_echoing=False)
    body = gzip.compress(instances_of(20_000), 0)
    zipped = request(body, "content-encoding: gzip")
    first, second, third = (gateway.connect() for _ in range(3))
    gateway.threads.held = []
    await first.send(zipped)
    assert gateway.taken == MAX_BODY_BYTES + len(body)
    assert (await second.ask(zipped)).code == "overloaded"
    await gateway.threads.work()
    assert 0 < gateway.taken - len(body) < 200_000  # what it became
    gateway.threads.held = None
    await gateway.answer()
    await third.send(request(gzip.compress(QUESTION), "content-encoding: gzip"))
    await gateway.answer()
    assert (first.codes, third.codes, gateway.taken) == (["ok"], ["ok"], 0)


async def test_the_input_of_a_large_body_does_not_keep_all_of_it() -> None:
    gateway = Gateway(is_echoing=False)
    await gateway.connect().send(request(body_of(200_000)))
    assert bytes(gateway.held.requests[0].input) == b"[1]"
    assert gateway.held.requests[0].input.nbytes == len(gateway.held.requests[0].input.obj)  # type: ignore[arg-type]


# Compressed, or in another form.


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZip"])
@pytest.mark.parametrize("count", [1, 100, 100_000])
async def test_a_zipped_body_is_answered(name: str, count: int) -> None:
    client = Gateway().connect()
    zipped = gzip.compress(instances_of(count))
    answer = await client.ask(request(zipped, f"content-encoding: {name}"))
    assert answer.json["prediction"] == [12345678] * count


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"x", "malformed"),
        (b"x" * 10_000, "malformed"),
        (gzip.compress(QUESTION, mtime=0)[:-1], "malformed"),
        (gzip.compress(QUESTION, mtime=0) + b"x", "malformed"),
        (gzip.compress(b"{", mtime=0), "malformed"),
        (gzip.compress(b" " * (MAX_BODY_BYTES + 1), mtime=0), "too_large"),
        (gzip.compress(body_of(100).replace(b"iris", b"rose"), mtime=0), "model_not_found"),
    ],
)
async def test_a_zipped_body_that_is_none_is_refused_and_keeps_no_room(
    body: bytes, code: str
) -> None:
    gateway = Gateway()
    client = gateway.connect()
    assert (await client.ask(request(body, "content-encoding: gzip"))).code == code
    assert gateway.taken == 0
    assert (await client.ask(request())).code == "ok"


async def test_a_large_body_that_is_malformed_is_refused() -> None:
    gateway = Gateway()
    answer = await gateway.connect().ask(request(b"x" * 300_000))
    assert (answer.code, gateway.taken) == ("malformed", 0)


async def test_messagepack_is_answered_in_messagepack() -> None:
    asked = msgspec.msgpack.encode({"model_name": "iris", "input_data": [1, 2]})
    for kind in ("application/msgpack", "application/x-msgpack; a=b", "APPLICATION/VND.MSGPACK"):
        client = Gateway().connect()
        answer = await client.ask(request(asked, content_type=kind))
        assert answer.headers["content-type"] == "application/msgpack"
        assert msgspec.msgpack.decode(answer.body)["prediction"] == [1, 2]


async def test_a_large_body_in_messagepack_needs_no_thread() -> None:
    gateway = Gateway()
    gateway.threads.held = []
    instances = [1.5] * 100_000
    asked = msgspec.msgpack.encode({"model_name": "iris", "input_data": instances})
    answer = await gateway.connect().ask(request(asked, content_type="application/msgpack"))
    assert msgspec.msgpack.decode(answer.body)["prediction"] == instances
    assert gateway.threads.held == []


async def test_an_error_of_the_model_is_a_problem_also_in_messagepack() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    asked = msgspec.msgpack.encode({"model_name": "iris", "input_data": [1]})
    await client.send(request(asked, content_type="application/msgpack"))
    gateway.held.calls[0].settle(ModelFailed("it raised"))
    await settle()
    assert client.answers[0].status == 502
    assert client.answers[0].json["detail"] == "it raised"


# Files.


async def test_a_file_is_an_instance() -> None:
    gateway = Gateway(is_echoing=False)
    await gateway.connect().send(request(b"\x89PNG\r\n\r\n", **FILE))
    (asked,) = gateway.held.requests
    assert (asked.form, msgspec.msgpack.decode(asked.input)) == ("raw", [b"\x89PNG\r\n\r\n"])


async def test_the_options_of_a_file_stand_in_the_query() -> None:
    gateway = Gateway(is_echoing=False)
    path = "/models/iris/predict?priority=high&timeout_s=2.5"
    await gateway.connect().send(request(b"x", path=path, content_type="image/png"))
    (asked,) = gateway.held.requests
    assert (asked.priority, asked.deadline) == ("high", gateway.clock.now + 2.5)


async def test_the_answer_to_a_file_is_json() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(gzip.compress(b"x"), "content-encoding: gzip", **FILE))
    await gateway.answer(0, json.dumps(["cat"]).encode())
    assert client.answers[0].json["prediction"] == ["cat"]
    assert msgspec.msgpack.decode(gateway.held.requests[0].input) == [b"x"]


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [
        ("/models/iris/predict?priority=urgent", 422, "$.priority"),
        ("/models/iris/predict?timeout_s=soon", 400, "$.timeout_s"),
        ("/models/iris/predict?timeout_s=0", 400, "$.timeout_s"),
        ("/models/iris/predict?color=red", 422, None),
    ],
)
async def test_an_option_that_is_none_is_refused(path: str, status: int, where: str | None) -> None:
    answer = await Gateway().connect().ask(request(b"x", path=path, content_type="image/png"))
    assert (answer.status, answer.json.get("where")) == (status, where)
