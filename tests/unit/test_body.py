"""The body of a request: whole, and within its limits."""

from __future__ import annotations

import asyncio
import gzip
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import GivenUp, Malformed, TooLarge, TooSlow, WrongMediaType
from modelyard.gateway.body import (
    INLINE_INFLATE_BYTES,
    read_body,
)
from modelyard.gateway.types import Headers, Message

MAX_BYTES = 1000
GZIP: Headers = {b"content-encoding": b"gzip"}


class Client:
    """Sends a body in pieces; then it waits, or is gone."""

    def __init__(self, *pieces: bytes, is_complete: bool = True, is_gone: bool = False) -> None:
        self._messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        if is_complete:
            self._messages[-1]["more_body"] = False
        elif is_gone:
            self._messages.append({"type": "http.disconnect"})
        self.received = 0

    async def receive(self) -> Message:
        if self.received == len(self._messages):
            await asyncio.Event().wait()
        self.received += 1
        return self._messages[self.received - 1]


async def body_of(client: Client, headers: Headers | None = None, **limits: float) -> bytes:
    return await read_body(
        client.receive,
        headers or {},
        max_bytes=int(limits.get("max_bytes", MAX_BYTES)),
        timeout_s=limits.get("timeout_s", 60),
    )


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=10))
async def test_a_body_is_the_same_however_it_is_cut(pieces: list[bytes]) -> None:
    assert await body_of(Client(*pieces)) == b"".join(pieces)
    zipped = [
        gzip.compress(b"".join(pieces), mtime=0)[start : start + 7] for start in range(0, 5000, 7)
    ]
    assert await body_of(Client(*zipped), GZIP, max_bytes=5000) == b"".join(pieces)


async def test_a_body_may_be_as_large_as_the_limit() -> None:
    body = b"x" * MAX_BYTES
    assert await body_of(Client(body), {b"content-length": b"1000"}) == body
    assert await body_of(Client(gzip.compress(body, mtime=0)), GZIP) == body


async def test_what_declares_too_much_is_not_even_read() -> None:
    client = Client(b"x")
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        await body_of(client, {b"content-length": b"1001"})
    assert client.received == 0


async def test_what_sends_too_much_is_read_no_further() -> None:
    client = Client(*[b"x" * 400] * 100)
    with pytest.raises(TooLarge):
        await body_of(client)
    assert client.received == 3


async def test_too_much_in_one_piece_is_too_large() -> None:
    with pytest.raises(TooLarge):
        await body_of(Client(b"x" * (MAX_BYTES + 1)))


@pytest.mark.parametrize("inflated_bytes", [MAX_BYTES + 1, 1_000_000])
async def test_a_gzip_bomb_is_too_large(inflated_bytes: int) -> None:
    bomb = gzip.compress(bytes(inflated_bytes), mtime=0)
    with pytest.raises(TooLarge):
        await body_of(Client(bomb), GZIP, max_bytes=max(MAX_BYTES, len(bomb)))


async def test_a_gzip_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await body_of(Client(bomb), GZIP, max_bytes=100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000_000


async def test_a_large_gzip_body_has_the_same_limit() -> None:
    noise = random.Random(0).randbytes(INLINE_INFLATE_BYTES + 1)
    zipped = gzip.compress(noise, mtime=0)
    assert await body_of(Client(zipped), GZIP, max_bytes=len(zipped)) == noise
    bomb = gzip.compress(noise + bytes(1_000_000), mtime=0)
    with pytest.raises(TooLarge):
        await body_of(Client(bomb), GZIP, max_bytes=500_000)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[1]", "the body is not gzip"),
        (b"", "truncated"),
        (gzip.compress(b"[1]", mtime=0)[:-1], "truncated"),
        (gzip.compress(b"[1]", mtime=0) + b"x", "something behind"),
        (gzip.compress(b"[1]", mtime=0) * 2, "something behind"),
    ],
)
async def test_what_is_no_gzip_is_malformed(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        await body_of(Client(body), GZIP)


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"x-gzip"])
async def test_gzip_has_three_spellings(encoding: bytes) -> None:
    client = Client(gzip.compress(b"[1]", mtime=0))
    assert await body_of(client, {b"content-encoding": encoding}) == b"[1]"


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"gzip, gzip"])
async def test_other_encodings_are_refused(encoding: bytes) -> None:
    with pytest.raises(WrongMediaType):
        await body_of(Client(b"[1]"), {b"content-encoding": encoding})


async def test_a_client_that_stops_sending_is_too_slow() -> None:
    with pytest.raises(TooSlow, match="not complete after 0 s"):
        await body_of(Client(b"[1", is_complete=False), timeout_s=0)


@pytest.mark.parametrize("pieces", [[], [b"[1"], [b"[1", b", 2"]])
async def test_a_client_that_leaves_is_gone(pieces: list[bytes]) -> None:
    with pytest.raises(GivenUp):
        await body_of(Client(*pieces, is_complete=False, is_gone=True))
