"""Heads that are known again are answered as if they were parsed each time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.gateway.heads import Head, HeadParser
from modelyard.gateway.known import LONGEST_KNOWN_BYTES, MOST_KNOWN, KnownHeads
from tests.unit.http import ORIGIN, Gateway
from tests.unit.wire import QUESTION, Answer, request

PLAIN = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"


def head_of(*lines: bytes) -> bytes:
    return PLAIN + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def learn(known: KnownHeads, raw: bytes) -> Head:
    head = HeadParser().parse(raw)
    assert head is not None
    known.learn(raw, head)
    return head


def test_a_head_with_the_same_lines_is_the_same_head() -> None:
    known = KnownHeads()
    assert known.recognise(head_of()) is None
    head = learn(known, head_of())
    assert known.recognise(head_of()) == (head, None)


@pytest.mark.parametrize(
    "line",
    [
        b"x-request-id: 1",
        b"X-Correlation-Id: 1",
        b"traceparent: 00-1-2-01",
        b"X-B3-TraceId: 1",
        b"x-datadog-trace-id: 1",
        b"x-forwarded-for: 192.0.2.1",
        b"date: today",
    ],
)
def test_what_tells_requests_apart_may_differ(line: bytes) -> None:
    known = KnownHeads()
    head = learn(known, head_of(line))
    found = known.recognise(head_of(line + b" and more\t~"))
    assert found is not None
    assert found.head is head


@pytest.mark.parametrize(
    "other",
    [
        head_of(b"x-request-id: 1", b"accept: x"),  # one more
        PLAIN + b"\r\n",  # one less
        PLAIN.replace(b"host: x\r\n", b"") + b"host: x\r\nx-request-id: 1\r\n\r\n",  # the order
        head_of(b"x-request-id: 1").replace(b"host", b"Host"),
        head_of(b"x-request-id: 1").replace(b"/predict", b"/predicT"),
        head_of(b"x-request-id: \x00"),
        head_of(b"x-request-id: 1\n"),
        head_of(b"x-request-id: 1\r"),
        head_of(b"x-request-id: \xc3\xa9"),
        head_of(b"x-request-id : 1"),
        head_of(b" x-request-id: 1"),
        head_of(b"content-length: 5"),
        head_of(b"expect: 100-continue"),
        head_of(b"x-forwarded-proto: https"),
    ],
)
def test_any_other_head_is_parsed(other: bytes) -> None:
    known = KnownHeads()
    learn(known, head_of(b"x-request-id: 1"))
    assert known.recognise(other) is None


def test_a_line_that_is_known_from_elsewhere_is_no_free_one() -> None:
    known = KnownHeads()
    learn(known, head_of(b"x-request-id: 1"))
    learn(known, head_of(b"accept: x"))
    assert known.recognise(head_of(b"accept: y")) is None


@pytest.mark.parametrize("line", [b"x-request-id:\t mine ", b"X-Request-Id:mine"])
def test_the_id_is_that_of_the_head_that_came(line: bytes) -> None:
    known = KnownHeads()
    learn(known, head_of(b"x-request-id: first"))
    found = known.recognise(head_of(line))
    assert found is not None
    assert found.given == (b"mine", None)


def test_the_trace_is_that_of_the_head_that_came() -> None:
    known = KnownHeads()
    learn(known, head_of(b"traceparent: 00-1-1-01", b"x-request-id: first"))
    found = known.recognise(head_of(b"Traceparent: 00-2-2-01", b"x-request-id: mine"))
    assert found is not None
    assert found.given == (b"mine", b"Traceparent: 00-2-2-01")


def test_long_heads_are_not_kept() -> None:
    known = KnownHeads()
    raw = head_of(b"a: " + b"x" * LONGEST_KNOWN_BYTES)
    learn(known, raw)
    assert known.recognise(raw) is None


@pytest.mark.parametrize("line", [b"a: %d", b"a: x"])
def test_no_more_than_so_many_are_kept_and_then_all_are_learned_anew(line: bytes) -> None:
    known = KnownHeads()
    learn(known, head_of(b"first: 1"))
    for number in range(MOST_KNOWN):
        # Of different lines, or of the same ones in ever other numbers.
        lines = [line % number] if b"%" in line else [line] * (number % 40 + 1)
        learn(known, head_of(*lines))
    assert (known.recognise(head_of(b"first: 1")) is None) == (b"%" in line)
    learn(known, head_of(b"last: 1"))
    assert known.recognise(head_of(b"last: 1")) is not None


def test_heads_are_forgotten_though_their_lines_are_few() -> None:
    known = KnownHeads()
    lines = [b"a: %d" % number for number in range(12)]
    for bits in range(MOST_KNOWN + 1):
        learn(known, head_of(*(line for n, line in enumerate(lines) if bits >> n & 1)))
    assert known.recognise(head_of()) is None


# Seen from the client: a known head changes nothing.

NAMES = ["x-request-id", "traceparent", "cache-control", "accept", "connection"]
VALUES = ["", "a", " a", "a ", "no-cache", "keep-alive", "\t", "x" * 200]
header_lines = st.lists(
    st.builds("{}: {}".format, st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4
)


def seen(answer: Answer) -> tuple[int, bytes, str, str | None]:
    given_id = answer.headers["x-request-id"]
    is_own = "-" in given_id  # made here: never the same twice
    return answer.status, answer.body, "" if is_own else given_id, answer.headers.get("x-cache")


@settings(max_examples=150)
@given(header_lines)
def test_a_request_is_answered_the_same_when_its_head_is_known(lines: list[str]) -> None:
    async def scenario() -> None:
        client = Gateway().connect()
        whole = request(QUESTION, *lines)
        first, second = await client.ask(whole), await client.ask(whole)
        assert seen(first) == seen(second)
        assert "\r" not in first.headers["x-request-id"]

    asyncio.run(scenario())


async def test_a_known_head_is_known_on_every_connection() -> None:
    gateway = Gateway()
    whole = request(QUESTION, f"origin: {ORIGIN}", "x-request-id: %s")
    for given_id in (b"one", b"two", b"three"):
        answer = await gateway.connect().ask(whole.replace(b"%s", given_id))
        assert answer.headers["x-request-id"] == given_id.decode()
        assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_a_known_head_that_comes_in_pieces_or_before_its_body_is_read_all_the_same() -> None:
    gateway = Gateway()
    client = gateway.connect()
    whole = request()
    for _ in range(2):
        await client.send(whole)
        await client.send(whole, step=7)
        await client.send(whole + whole)
    assert client.codes == ["ok"] * 8


async def test_what_the_client_says_of_the_connection_is_known_too() -> None:
    gateway = Gateway()
    for _ in range(2):
        client = gateway.connect()
        await client.send(request(QUESTION, "connection: close"))
        assert client.answers[0].headers["connection"] == "close"
        assert client.is_cut


@pytest.mark.parametrize(
    ("given_id", "is_kept"),
    [("mine", True), ("x" * 128, True), ("x" * 129, False), ("é", False), ("a\tb", False)],
)
async def test_an_id_that_could_not_be_sent_back_is_replaced(given_id: str, is_kept: bool) -> None:
    client = Gateway().connect()
    for _ in range(2):
        answer = await client.ask(request(QUESTION, f"x-request-id: {given_id}"))
        assert (answer.headers["x-request-id"] == given_id) == is_kept
