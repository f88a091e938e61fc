"""However what a client sends is cut into pieces, it is answered the same."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.asking import settle
from tests.unit.http import Gateway
from tests.unit.wire import QUESTION, Answer, chunked, question, request

KINDS = {
    "by length": request(),
    "empty lines before it": b"\r\n\r\n\r\n" + request(),
    "no body": request(b"", method="GET", path="/page"),
    "chunks": chunked(QUESTION[:5], QUESTION[5:]),
    "a chunk with empty lines in it": chunked(b"\r\n\r\n", QUESTION, b"\r\n\r\n"),
    "a trailer": chunked(QUESTION)[:-2] + b"checksum: none\r\n\r\n",
    "a page with a body": request(b"hello", path="/page"),
    "a page with chunks": chunked(b"hello", path="/page"),
    "to go on": request(QUESTION, "expect: 100-continue"),
    "gzip": request(gzip.compress(QUESTION, mtime=0), "content-encoding: gzip"),
    "an upgrade": request(QUESTION, "connection: Upgrade", "upgrade: h2c"),
    "refused": request(QUESTION, "content-encoding: br"),
    "malformed": request(b"{"),
    "of a file": request(b"abc", path="/models/iris/predict", content_type="image/png"),
}


def plain(answers: list[Answer]) -> list[tuple[int, bytes]]:
    """Give answers without the ids that the gateway has made."""
    found = []
    for answer in answers:
        own = answer.headers.get("x-request-id", "").encode()
        found.append((answer.status, answer.body.replace(own, b"") if own else answer.body))
    return found


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run one example."""
    asyncio.run(scenario)


async def answers_to(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """Give the answers to what comes in pieces, each when all before it has been dealt with."""
    client = Gateway().connect()
    for piece in pieces:
        await client.send(piece)
    await settle()
    return plain(client.answers)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_is_answered_the_same_wherever_it_is_cut(kind: str) -> None:
    whole = KINDS[kind]
    expected = await answers_to([whole])
    assert len(expected) == 1
    for cut in range(1, len(whole)):
        assert await answers_to([whole[:cut], whole[cut:]]) == expected, whole[:cut]
    assert await answers_to([whole[n : n + 1] for n in range(len(whole))]) == expected


requests = st.sampled_from(sorted(KINDS))


@settings(max_examples=60)
@given(st.lists(requests, min_size=1, max_size=6))
def test_each_of_many_requests_that_come_at_once_is_answered_in_order(kinds: list[str]) -> None:
    async def scenario() -> None:
        each = [(await answers_to([KINDS[kind]]))[0] for kind in kinds]
        assert await answers_to([b"".join(KINDS[kind] for kind in kinds)]) == each

    run(scenario())


# One that is refused for its head closes the connection unless all of it is here.
read_whole = sorted(set(KINDS) - {"refused"})


@settings(max_examples=150)
@given(st.lists(st.sampled_from(read_whole), min_size=1, max_size=5), st.data())
def test_a_stream_of_requests_is_answered_in_order_however_it_is_cut(
    kinds: list[str], data: st.DataObject
) -> None:
    stream = b"".join(KINDS[kind] for kind in kinds)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    edges = [0, *cuts, len(stream)]

    async def scenario() -> None:
        each = [(await answers_to([KINDS[kind]]))[0] for kind in kinds]
        pieces = [stream[start:end] for start, end in pairwise(edges)]
        assert await answers_to(pieces) == each

    run(scenario())


@pytest.mark.parametrize("kind", read_whole)
async def test_the_request_behind_it_is_not_lost_wherever_a_request_is_cut(kind: str) -> None:
    whole, behind = KINDS[kind], request(question(7))
    expected = [*await answers_to([whole]), *await answers_to([behind])]
    for cut in range(1, len(whole)):
        assert await answers_to([whole[:cut], whole[cut:] + behind]) == expected, whole[:cut]


garbage = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda whole, place, byte: whole[:place] + bytes([byte]) + whole[place + 1 :],
        st.sampled_from(sorted(KINDS.values())),
        st.integers(0, 150),
        st.integers(0, 255),
    ),
    st.builds(
        lambda whole, start, end: whole[: min(start, end)] + whole[max(start, end) :],
        st.sampled_from(sorted(KINDS.values())),
        st.integers(0, 150),
        st.integers(0, 150),
    ),
)


@settings(max_examples=300)
@given(st.lists(garbage, max_size=3), st.integers(1, 300))
def test_whatever_comes_there_are_only_answers_and_each_refusal_for_good_is_the_last(
    stream: list[bytes], step: int
) -> None:
    async def scenario() -> None:
        gateway = Gateway()
        client = gateway.connect()
        await client.send(b"".join(stream), step=step)
        await gateway.pass_time(20)  # what is not whole is too slow
        await gateway.pass_time(200)
        assert client.is_cut
        assert (gateway.taken, gateway.connections) == (0, 0)
        assert all(answer.status != 500 for answer in client.answers)
        last = [a for a in client.answers if a.headers.get("connection") == "close"]
        assert last in ([], client.answers[-1:])

    run(scenario())


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=50).filter(lambda raw: raw[0] not in b"\r\n"))
def test_what_is_no_http_is_refused_and_nothing_behind_it_is_answered(raw: bytes) -> None:
    async def scenario() -> None:
        client = Gateway().connect()
        await client.send(b"\x00" + raw + b"\r\n\r\n" + request())
        assert [answer.status for answer in client.answers] == [400]
        assert client.answers[0].headers["connection"] == "close"
        assert client.wire.is_eof

    run(scenario())
