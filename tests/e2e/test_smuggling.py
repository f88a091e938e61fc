"""Requests whose end is a matter of dispute: straight, and through proxies that share connections.

What is one request for a proxy and two for the gateway, or the other way round, would have somebody
get another one's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import TRICK
from tests.e2e.smuggling_cases import BODY, CASES, MARK, Case
from tests.e2e.test_connections import body_of, is_right
from tests.support.fronts import FRONTS, front
from tests.support.raw import Line, address_of, connect, request_bytes
from tests.support.relay import Relay
from tests.support.server import PATIENCE_S, Server, wait_until

QUIET_S = 0.1  # a proxy that has not answered so long waits for more
_FORWARDED = re.compile(
    rb"([A-Z]+) \S+ HTTP/1\.[01]\r\n(?:[^\r\n]+\r\n)*?x-request-id: (front-[\w-]+)\r\n",
    re.IGNORECASE,
)
_ANSWERED = re.compile(rb"^x-request-id: ([^\r\n]+)\r\n", re.IGNORECASE | re.MULTILINE)
_nonces = itertools.count(1000)


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    with Server(TRICK) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


def heads_in(received: bytes, methods: Iterator[str]) -> list[bytes]:
    """Give the heads of responses, one after the other; nothing else may be there."""
    heads = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), received
        assert end, received
        heads.append(head + b"\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        is_without = next(methods) == "HEAD" or head.startswith(b"HTTP/1.1 1")
        size = 0 if is_without or length is None else int(length[1])
        assert len(rest) >= size, received
        received = rest[size:]
    return heads


async def read_all(line: Line) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await line.everything()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_straight_at_the_gateway(served: Server, case: Case) -> None:
    """Also cut at every place, for what comes in one piece may be read another way."""
    goodbye = (
        b"" if case.ending == "refused" else b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n"
    )
    for cut in (0, len(case.sent) // 3, len(case.sent) // 2, len(case.sent) - len(BODY)):
        async with await connect(served.url) as line:
            line.send(case.sent[:cut])
            await line.drain()
            if cut:
                await asyncio.sleep(0.005)
            line.send(case.sent[cut:] + goodbye)
            received = await read_all(line)
        first = case.sent.partition(b" ")[0].decode()
        heads = heads_in(received, itertools.chain([first], itertools.repeat("GET")))
        if case.ending == "refused":
            assert len(heads) == 1, received
            assert heads[0].startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), received
            assert b"connection: close" in heads[0]
        else:
            is_last = b"connection: close" in heads[0]
            assert len(heads) == (1 if is_last else {"one": 2, "two": 3}[case.ending]), received
        is_hidden = any(MARK in head for head in heads)
        assert is_hidden == (case.ending == "two"), received


async def through(port: int, case: Case) -> None:
    """Send a case, and leave once it is answered, or the proxy waits for more of it."""
    async with await connect(f"http://127.0.0.1:{port}") as line:
        line.send(case.sent)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(QUIET_S):
                await line.everything()


async def ask_as_another(port: int) -> None:
    """Ask on a connection of one's own: the answer must be one's own."""
    nonce = next(_nonces)
    async with await connect(f"http://127.0.0.1:{port}") as line:
        assert is_right(await line.ask(request_bytes(body_of(nonce))), nonce)


def check(forwarded: bytes, answered: bytes) -> None:
    """See that the gateway answered what the proxy has passed on, in this order, and nothing else.

    Whom it refuses before it knows the id it answers last.
    """
    sent = _FORWARDED.findall(forwarded)
    assert MARK not in answered
    heads = heads_in(answered, (method.decode() for method, _ in sent))
    ids = [found[1] for head in heads if (found := _ANSWERED.search(head))]
    if heads and (b"connection: close" in heads[-1]) and not ids[-1].startswith(b"front-"):
        assert heads[-1].startswith(b"HTTP/1.1 4"), answered
        ids.pop()
    assert ids == [number for _, number in sent][: len(ids)], (forwarded, answered)


@pytest.mark.parametrize("name", FRONTS)
async def test_through_a_proxy(served: Server, tmp_path: Path, name: str) -> None:
    gateway = address_of(served.url)[1]
    async with Relay(int(gateway)) as relay:
        with front(name, tmp_path / "front", gateway=relay.port) as port:
            for case in CASES:
                await through(port, case)
                await ask_as_another(port)
            assert len(relay.connections) < len(CASES)  # so that they were shared
            ways = [bytes(way) for connection in relay.connections for way in connection]
    for forwarded, answered in zip(ways[::2], ways[1::2], strict=True):
        check(forwarded, answered)
    total = sum(forwarded.count(b"front-") for forwarded in ways[::2])
    assert total >= 1.2 * len(CASES), "the proxy has passed hardly anything on"
    assert "Traceback" not in served.output
