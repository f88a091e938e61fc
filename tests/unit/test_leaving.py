"""A connection that ends at whatever stage: by the client, or by a server that shuts down."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable

import pytest

from modelyard.core.errors import GivenUp, ShuttingDown
from modelyard.gateway.connection import IDLE_LINGER_S, LINGER_S
from tests.unit.asking import settle
from tests.unit.http import Client, Gateway, HeldPage
from tests.unit.wire import QUESTION, Wire, chunked, request

LARGE = b'{"model_name":"iris","input_data":[' + b"1," * 150_000 + b"1]}"
"""So large that it is decoded in a thread."""
STOPPING = ShuttingDown("this gateway is shutting down")
Begin = Callable[[Gateway, Client], Awaitable[object]]


async def _page_begun(gateway: Gateway, client: Client) -> None:
    await client.send(request(b"", method="GET", path="/page"))
    page_of(gateway).pieces.put_nowait(b"first")
    await settle()


async def _zipped(gateway: Gateway, client: Client) -> None:
    gateway.threads.held = []
    await client.send(request(gzip.compress(LARGE, 0), "content-encoding: gzip"))


async def _decoding(gateway: Gateway, client: Client) -> None:
    gateway.threads.held = []
    await client.send(request(LARGE))


async def _decoded(gateway: Gateway, client: Client) -> None:
    await client.send(request(gzip.compress(LARGE, 9), "content-encoding: gzip"))


IN_HAND: dict[str, Begin] = {
    "asked": lambda _, client: client.send(request()),
    "decoding": _decoding,
    "inflating": _zipped,
    "decoded": _decoded,
}
"""Requests that are here whole and not answered."""
ARRIVING: dict[str, Begin] = {
    "body": lambda _, client: client.send(request()[:-1]),
    "large body": lambda _, client: client.send(request(LARGE)[:-1]),
    "chunks": lambda _, client: client.send(chunked(LARGE)[:-1]),
}
QUIET: dict[str, Begin] = {
    "connected": lambda _, client: client.send(b""),
    "head": lambda _, client: client.send(request()[:20]),
    "refused": lambda _, client: client.send(b"nonsense\r\n\r\n"),
}
PAGE: dict[str, Begin] = {"page": _page_begun}
STAGES = IN_HAND | ARRIVING | QUIET | PAGE


def page_of(gateway: Gateway) -> HeldPage:
    page = gateway.server.config.app
    assert isinstance(page, HeldPage)
    return page


async def at(stage: str, wire: Wire | None = None) -> tuple[Gateway, Client]:
    """Give a connection at this stage of a request."""
    gateway = Gateway(pages=HeldPage(), is_echoing=False)
    client = gateway.connect(wire)
    await STAGES[stage](gateway, client)
    return gateway, client


@pytest.mark.parametrize("stage", STAGES)
async def test_a_client_may_leave_at_any_stage_and_nothing_is_kept(stage: str) -> None:
    gateway, client = await at(stage)
    before = client.wire.received
    await client.leave()
    await gateway.threads.work()
    assert gateway.taken == 0
    assert gateway.connections == 0
    assert all(isinstance(call.outcome, GivenUp) for call in gateway.held.calls)
    assert client.wire.received == before  # nothing is written to who has left
    assert gateway.metrics.codes["client_gone"] == (stage in IN_HAND)
    await gateway.pass_time(1000)
    assert client.wire.received == before


async def test_a_page_whose_client_leaves_may_finish() -> None:
    gateway, client = await at("page")
    await client.leave()
    page_of(gateway).pieces.put_nowait(b"more")
    page_of(gateway).pieces.put_nowait(None)
    await settle()
    assert page_of(gateway).was_left
    assert b"more" not in client.wire.received


async def test_a_client_that_left_disturbs_nobody_who_asks_the_same() -> None:
    gateway = Gateway(is_echoing=False, is_cached=True)
    first, second = gateway.connect(), gateway.connect()
    await first.send(request())
    await second.send(request())
    await first.leave()
    await gateway.answer(0)
    assert (first.codes, second.codes) == ([], ["ok"])


# The server stops: shutdown.


@pytest.mark.parametrize("stage", IN_HAND | ARRIVING)
async def test_a_stopping_server_answers_what_is_under_way_and_says_that_it_closes(
    stage: str,
) -> None:
    gateway, client = await at(stage)
    client.connection.shutdown()
    await gateway.threads.work()
    gateway.threads.held = None
    if stage in ARRIVING:
        await client.send(b"\n" if stage == "chunks" else b"}")
    await gateway.answer()
    assert client.codes == ["ok"]
    assert client.answers[0].headers["connection"] == "close"
    assert client.is_cut
    assert gateway.taken == 0


async def test_a_stopping_server_lets_a_page_finish() -> None:
    gateway, client = await at("page")
    client.connection.shutdown()
    await settle()
    assert not client.is_cut
    page_of(gateway).pieces.put_nowait(None)
    await settle()
    assert (client.answers[0].body, client.is_cut) == (b"first", True)


@pytest.mark.parametrize("stage", ["connected", "head"])
async def test_a_stopping_server_still_takes_a_request_that_is_on_its_way(stage: str) -> None:
    gateway, client = await at(stage)
    client.connection.shutdown()
    await client.send(request() if stage == "connected" else request()[20:])
    await gateway.pass_time(IDLE_LINGER_S)
    await gateway.answer()
    assert client.answers[0].headers["connection"] == "close"
    assert client.is_cut


@pytest.mark.parametrize("stage", ["connected", "head"])
async def test_a_stopping_server_closes_a_connection_on_which_nothing_comes(stage: str) -> None:
    gateway, client = await at(stage)
    client.connection.shutdown()
    await gateway.pass_time(IDLE_LINGER_S / 2)
    assert not client.is_cut
    await gateway.pass_time(IDLE_LINGER_S / 2)
    assert (client.is_cut, client.answers) == (True, [])


async def test_a_stopping_server_waits_no_longer_for_who_was_refused() -> None:
    _, client = await at("refused")
    client.connection.shutdown()
    await settle()
    assert (client.codes, client.is_cut) == (["malformed"], True)


# It has waited long enough: give_up.


@pytest.mark.parametrize("stage", IN_HAND | ARRIVING)
async def test_what_takes_too_long_is_told_that_the_server_stops(stage: str) -> None:
    gateway, client = await at(stage)
    client.connection.shutdown()
    client.connection.give_up(STOPPING)
    await gateway.threads.work()
    assert [answer.status for answer in client.answers] == [503]
    assert client.codes == ["shutting_down"]
    assert client.answers[0].headers["connection"] == "close"
    assert gateway.taken == 0
    assert gateway.metrics.codes == {"shutting_down": 1}
    await gateway.pass_time(LINGER_S)  # so long one that is still sending may read its answer
    assert client.is_cut


@pytest.mark.parametrize("stage", QUIET)
async def test_where_nothing_is_under_way_nothing_is_said(stage: str) -> None:
    _, client = await at(stage)
    before = client.wire.received
    client.connection.give_up(STOPPING)
    await settle()
    assert client.wire.received == before


async def test_a_page_that_takes_too_long_is_cancelled() -> None:
    gateway, client = await at("page")
    client.connection.shutdown()
    client.connection.give_up(STOPPING)
    await settle()
    assert page_of(gateway).cancelled == 1
    assert (client.is_cut, client.answers) == (True, [])
    assert gateway.connections == 0


async def test_a_client_that_does_not_read_is_not_waited_for_at_the_end() -> None:
    _, client = await at("asked")
    await client.stop_reading()
    client.connection.shutdown()
    client.connection.give_up(STOPPING)
    await settle()
    assert client.wire.is_aborted


async def test_a_request_that_was_refused_while_it_was_decoded_is_not_answered_twice() -> None:
    gateway, client = await at("decoding")
    client.connection.give_up(STOPPING)
    client.connection.give_up(STOPPING)
    await gateway.threads.work()
    assert client.codes == ["shutting_down"]
    assert gateway.held.calls == []


# Refusals of what has not come whole.


@pytest.mark.parametrize("can_half_close", [True, False])
async def test_who_is_refused_may_finish_sending_for_a_while(can_half_close: bool) -> None:
    gateway = Gateway(max_body_bytes=100)
    client = gateway.connect(Wire(can_half_close=can_half_close))
    asked = request(b"x" * 1000)
    await client.send(asked[:200])
    assert client.codes == ["too_large"]
    assert client.wire.is_eof == can_half_close
    await client.send(asked[200:] + request(QUESTION))
    assert not client.is_cut
    await gateway.pass_time(LINGER_S)
    assert (client.codes, client.is_cut) == (["too_large"], True)
    assert gateway.metrics.codes == {"too_large": 1}


async def test_who_is_refused_and_leaves_is_forgotten_at_once() -> None:
    gateway, client = await at("refused")
    await client.leave()
    assert gateway.connections == 0
    await gateway.pass_time(LINGER_S)
