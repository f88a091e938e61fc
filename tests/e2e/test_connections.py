"""Requests on one connection: one after the other, several at once, in pieces, and cut short."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import TRICK
from tests.support.ledger import answer_of
from tests.support.raw import Answer, connect, request_bytes
from tests.support.server import Server, wait_until

HEALTH = request_bytes(b"", path="/healthz", method="GET")

_nonces = itertools.count(1)


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    """One server for connections that leave it as it is."""
    with Server(TRICK) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


def body_of(nonce: int, **trick: object) -> bytes:
    instance = {"nonce": nonce, **trick}
    return json.dumps({"model_name": "trick_model", "input_data": [instance]}).encode()


def is_right(answer: Answer, nonce: int) -> bool:
    return answer.status == 200 and answer.json["prediction"] == [answer_of(nonce)]


async def test_one_after_the_other(served: Server) -> None:
    async with await connect(served.url) as line:
        for nonce in itertools.islice(_nonces, 20):
            assert is_right(await line.ask(request_bytes(body_of(nonce))), nonce)
            assert (await line.ask(HEALTH)).json == {"status": "ok"}


async def test_many_at_once_are_answered_in_order(served: Server) -> None:
    """Whatever they are: predictions slow, quick and compressed, and pages."""
    nonces = list(itertools.islice(_nonces, 12))
    kinds = itertools.cycle(("slow", "quick", "gzip"))
    sent = b""
    for nonce, kind in zip(nonces, kinds, strict=False):
        body = body_of(nonce, act="work", seconds=0.05) if kind == "slow" else body_of(nonce)
        is_gzip = kind == "gzip"
        sent += request_bytes(
            gzip.compress(body, mtime=0) if is_gzip else body,
            *(["content-encoding: gzip"] if is_gzip else []),
        )
        sent += HEALTH
    for size in (len(sent), 1000, 37):
        async with await connect(served.url) as line:
            for start in range(0, len(sent), size):
                line.send(sent[start : start + size])
                await asyncio.sleep(0)
            for nonce in nonces:
                assert is_right(await line.answer(), nonce)
                assert (await line.answer()).json == {"status": "ok"}
            assert await line.rest() == b""


async def test_a_body_in_pieces(served: Server) -> None:
    nonce = next(_nonces)
    request = request_bytes(body_of(nonce))
    async with await connect(served.url) as line:
        for cut in (1, len(request) // 2, len(request) - 1):
            line.send(request[:cut])
            await asyncio.sleep(0.02)
            assert is_right(await line.ask(request[cut:]), nonce)


async def test_who_wants_no_more_is_told_goodbye(served: Server) -> None:
    for header in ("connection: close", "Connection: Close"):
        async with await connect(served.url) as line:
            answer = await line.ask(request_bytes(body_of(1), header))
            assert is_right(answer, 1)
            assert answer.headers["connection"] == "close"
            assert not line.is_open or await line.rest() == b""


async def test_an_old_client_is_answered(served: Server) -> None:
    request = request_bytes(body_of(1)).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with await connect(served.url) as line:
        assert is_right(await line.ask(request), 1)


async def test_the_same_headers_with_another_length_are_another_request(served: Server) -> None:
    short, long = request_bytes(body_of(1)), request_bytes(body_of(12345))
    async with await connect(served.url) as line:
        for _ in range(3):
            assert is_right(await line.ask(short), 1)
            assert is_right(await line.ask(long), 12345)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["content-length: 10", "content-length: 10"], 400),
        (["content-length: 10", "transfer-encoding: chunked"], 400),
        (["content-length: +10"], 400),
        (["content-length: 0"], 400),
        (["content-length: 99999999999999999999"], 400),
        (["content-length: 99999999"], 413),
    ],
)
async def test_lengths_that_cannot_be(served: Server, headers: list[str], status: int) -> None:
    async with await connect(served.url) as line:
        for _ in range(3):
            assert is_right(await line.ask(request_bytes(body_of(1))), 1)
        assert (await line.ask(request_bytes(b"{}", *headers))).status == status


async def test_a_client_that_leaves_in_the_middle_disturbs_nobody(served: Server) -> None:
    request = request_bytes(body_of(1, act="work", seconds=0.2))
    for part in (request[:10], request[:-5], request):
        async with await connect(served.url) as line:
            line.send(part)
            await asyncio.sleep(0.02)
    wait_until(lambda: served.metric("modelyard_in_flight") == 0, what="nothing under way")
    async with await connect(served.url) as line:
        assert is_right(await line.ask(request_bytes(body_of(7))), 7)


async def test_a_stopping_server_answers_what_it_has_and_says_goodbye() -> None:
    with Server(TRICK) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as busy, await connect(server.url) as idle:
            for line in (busy, idle):
                assert is_right(await line.ask(request_bytes(body_of(1))), 1)
            busy.send(request_bytes(body_of(2, act="work", seconds=0.5)))
            wait_until(lambda: server.metric("modelyard_in_flight") == 1, what="the request")
            server.process.terminate()
            answer = await busy.answer()
            assert is_right(answer, 2)
            assert answer.headers["connection"] == "close"
            assert await idle.rest() == b""
        assert server.process.wait(60) == 0


async def test_a_server_that_must_stop_refuses_what_it_cannot_finish() -> None:
    with Server(TRICK, settings={"MODELYARD_DRAIN_S": "1"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as line:
            line.send(request_bytes(body_of(2, act="hang")))
            wait_until(lambda: server.metric("modelyard_in_flight") == 1, what="the request")
            server.process.terminate()
            answer = await line.answer()
            assert (answer.status, answer.json["code"]) == (503, "shutting_down")
            assert answer.headers["connection"] == "close"
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.output
