"""A short form of `make attack`, and what happens where no more connections can be open."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.attack.crowd import PAGE, allow_files, connect_from, floods, hasty, idle, ordinary, slow
from tests.support.ledger import answer_of
from tests.support.raw import connect, request_bytes
from tests.support.server import Server, wait_until

TRICK = Path(__file__).parents[1] / "models" / "trick_model"
FILES = 160  # that the server with little room may open
ROOM = 60  # connections of it, for the rest is spared


def question(nonce: int, **trick: object) -> bytes:
    instance = {"nonce": nonce, **trick}
    body = json.dumps({"model_name": "trick_model", "input_data": [instance]})
    return request_bytes(body.encode())


def wait_until_ready(server: Server) -> None:
    wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")


async def test_ordinary_requests_are_answered_beside_a_crowd() -> None:
    allow_files(3_000)
    with Server(TRICK, settings={"MODELYARD_HEADER_TIMEOUT_S": "2"}) as server:
        wait_until_ready(server)
        before = psutil.Process(server.process.pid).memory_info().rss
        stop = asyncio.Event()
        async with idle(server.url, 1_000) as lines, asyncio.TaskGroup() as group:
            asking = group.create_task(ordinary(server.url, question(1), stop))
            flooding = group.create_task(floods(server.url, stop))
            hurrying = group.create_task(hasty(server.url, stop))
            statuses = await slow(server.url, 100, pause_s=0.1)
            grown = psutil.Process(server.process.pid).memory_info().rss - before
            stop.set()
            await asyncio.wait([asking, flooding, hurrying])
            assert all(line.is_open for line in lines)
        assert statuses == {408: 100}
        assert asking.result(), "no ordinary request was made"
        assert {name.rpartition(": ")[2] for name in flooding.result()} == {"431"}
        assert grown < 32 << 20
        assert "Traceback" not in server.output


def is_let_in(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return server.http.get("/healthz").is_success
    return False


class NarrowServer(Server):
    """One that may open few files."""

    _within = ("prlimit", f"--nofile={FILES}")


@pytest.fixture
def narrow() -> Iterator[Server]:
    with NarrowServer(TRICK) as server:
        wait_until_ready(server)
        yield server


async def test_idle_connections_make_room_for_others(narrow: Server) -> None:
    async with contextlib.AsyncExitStack() as stack:
        busy = await stack.enter_async_context(await connect(narrow.url))
        busy.send(question(7, act="work", seconds=3))
        for number in range(4 * FILES):
            line = await stack.enter_async_context(await connect_from(narrow.url, number))
            assert (await line.ask(PAGE)).status == 200
        async with await connect(narrow.url) as other:
            for nonce in range(3):  # who asks now and then is none of those that are idle longest
                assert (await other.ask(question(nonce))).json["prediction"] == [answer_of(nonce)]
        assert (await busy.answer()).json["prediction"] == [answer_of(7)]
        assert psutil.Process(narrow.process.pid).num_fds() < FILES
        # There are files left for what a new runner needs.
        assert narrow.http.post("/models/trick_model/unload").is_success
        assert narrow.http.post("/models/trick_model/load").is_success
        wait_until_ready(narrow)
    (told,) = narrow.events("connections_at_limit")
    assert told["most"] == ROOM


async def test_where_nobody_is_idle_who_comes_last_is_turned_away(narrow: Server) -> None:
    async with contextlib.AsyncExitStack() as stack:
        lines = []
        for nonce in range(ROOM):
            line = await stack.enter_async_context(await connect_from(narrow.url, nonce))
            line.send(request_bytes(b"", "content-length: 1000000"))
            lines.append(line)
        async with await connect(narrow.url) as late:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await late.ask(PAGE)
        lines.pop().close()
        await asyncio.to_thread(wait_until, lambda: is_let_in(narrow), what="room")
