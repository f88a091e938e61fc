"""What is written on a connection comes in the order of what was asked on it."""

from __future__ import annotations

import asyncio

from tests.unit.asking import settle
from tests.unit.http import Gateway
from tests.unit.wire import QUESTION, question, request


async def test_what_comes_while_an_answer_is_written_does_not_overtake_what_came_before() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(question(1)) + request(question(2)))
    loop = asyncio.get_running_loop()
    loop.call_soon(gateway.held.calls[0].settle, b"[1]")
    loop.call_soon(client.wire.deliver, request(question(3)))  # in the same turn of the loop
    await settle()
    await gateway.answer(1)
    assert [bytes(asked.input) for asked in gateway.held.requests] == [b"[1]", b"[2]", b"[3]"]


async def test_what_comes_while_nothing_is_read_of_an_answer_waits_behind_what_came_before() -> (
    None
):
    gateway = Gateway()
    client = gateway.connect()
    stream = b"".join(request(question(number)) for number in range(4))
    await client.stop_reading()
    await client.send(stream, step=150)
    await client.read_again()
    assert [a.json["prediction"] for a in client.answers] == [[0], [1], [2], [3]]


async def test_the_word_to_go_on_does_not_overtake_the_answer_before_it() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request())
    loop = asyncio.get_running_loop()
    loop.call_soon(gateway.held.calls[0].settle, b"[1]")
    loop.call_soon(client.wire.deliver, request(QUESTION, "expect: 100-continue")[:-1])
    await settle()
    assert client.wire.received.endswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_the_refusal_of_head_has_no_body() -> None:
    client = Gateway().connect()
    await client.send(request(b"", method="HEAD"))
    assert client.wire.received.startswith(b"HTTP/1.1 405 ")
    assert client.wire.received.endswith(b"\r\n\r\n")


async def test_empty_lines_before_a_request_are_passed_over_however_many() -> None:
    client = Gateway().connect()
    assert (await client.ask(b"\r\n" * 50_000 + request())).status == 200
    await client.send(b"\r\n\r", step=1)
    assert (await client.ask(b"\n" + request())).status == 200
