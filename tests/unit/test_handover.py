"""Pages: answered by an application behind uvicorn, on the same connections as predictions."""

from __future__ import annotations

import asyncio

import pytest

from modelyard.gateway.budget import SMALL_BYTES
from modelyard.gateway.types import Receive, Scope, Send
from tests.unit.asking import settle
from tests.unit.http import Gateway, HeldPage
from tests.unit.wire import QUESTION, chunked, question, request

GET = request(b"", method="GET", path="/page")


async def test_the_application_gets_the_request_without_its_framing() -> None:
    client = Gateway().connect()
    for asked in (request(b"hello", path="/page"), chunked(b"hel", b"lo", path="/page")):
        page = (await client.ask(asked)).json
        assert (page["path"], page["body"]) == ("/page", "hello")
        assert page["headers"] == ["content-length", "content-type", "host"]


async def test_a_page_takes_little_and_takes_it_whole() -> None:
    client = Gateway().connect()
    body = b"x" * SMALL_BYTES
    await client.send(request(body, path="/page"), step=10_000)
    assert len(client.answers[0].json["body"]) == len(body)
    for too_much in (request(body + b"x", path="/page"), chunked(body, b"x", path="/page")):
        client = Gateway().connect()
        await client.send(too_much, step=10_000)
        assert client.answers[0].status == 413


async def test_pages_and_predictions_are_answered_in_order() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(question(1)) + GET + request(question(2)) + GET)
    await gateway.answer(0)
    await gateway.answer(1)
    await settle()
    assert ["path" in answer.json for answer in client.answers] == [False, True, False, True]


async def test_the_response_to_head_has_no_body() -> None:
    client = Gateway().connect()
    await client.send(request(b"", method="HEAD", path="/page"))
    head, _, body = client.wire.received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b""
    client.wire.received = b""
    assert (await client.ask(request())).status == 200


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("a defect")


async def half_broken(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("a defect")


@pytest.mark.parametrize(("app", "statuses"), [(broken, [500]), (half_broken, [])])
async def test_a_defect_of_the_application_ends_the_connection_at_most(
    app: object, statuses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(pages=app)  # type: ignore[arg-type]
    client = gateway.connect()
    await client.send(GET)
    await settle()
    assert [answer.status for answer in client.answers] == statuses
    assert "a defect" in caplog.text
    assert client.is_cut
    assert (await gateway.connect().ask(request())).status == 200


async def test_the_application_waits_for_a_client_that_reads_slowly() -> None:
    page = HeldPage()
    client = Gateway(pages=page).connect()
    await client.send(GET)
    page.pieces.put_nowait(b"one")
    await settle()
    await client.stop_reading()
    page.pieces.put_nowait(b"two")
    page.pieces.put_nowait(b"three")
    await settle()
    assert page.pieces.qsize() == 1  # it is held in the middle of the second
    await client.read_again()
    page.pieces.put_nowait(None)
    await settle()
    assert client.answers[0].body == b"onetwothree"


async def test_what_was_answered_before_a_page_is_written_before_it() -> None:
    gateway = Gateway()
    client = gateway.connect()
    client.wire.deliver(request())  # the answer is written at the end of this turn of the loop
    client.wire.deliver(GET)
    await settle()
    assert ["path" in answer.json for answer in client.answers] == [False, True]


async def test_a_page_may_close_the_connection() -> None:
    async def last(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"connection", b"close"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    client = Gateway(pages=last).connect()
    await client.send(GET + request())
    await settle()
    assert [answer.status for answer in client.answers] == [204]
    assert client.is_cut


async def test_a_page_sees_who_asks() -> None:
    seen: list[object] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope["client"], scope["server"], scope["scheme"], scope["query_string"]])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await Gateway(pages=note).connect().ask(request(b"", method="GET", path="/page?a=b"))
    assert seen == [("192.0.2.1", 1234), ("192.0.2.2", 80), "http", b"a=b"]


async def test_a_page_that_nobody_cancels_is_finished_by_a_cancelled_task() -> None:
    """A task of uvicorn's that somebody else cancels does not leave its connection waiting."""
    page = HeldPage()
    client = Gateway(pages=page).connect()
    await client.send(GET)
    (task,) = (t for t in asyncio.all_tasks() if "run_asgi" in repr(t))
    task.cancel()
    await settle()
    assert client.is_cut


async def test_a_prediction_behind_a_page_waits_for_it() -> None:
    page = HeldPage()
    client = Gateway(pages=page).connect()
    await client.send(GET + request(QUESTION))
    assert page.asked == 1
    page.pieces.put_nowait(None)
    await settle()
    assert [answer.status for answer in client.answers] == [200, 200]
    assert client.answers[1].json["prediction"] == [1]
