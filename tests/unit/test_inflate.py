"""Compressed bodies: inflated whole, and never beyond the limit."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Malformed, TooLarge
from modelyard.gateway.inflate import inflate

MAX_BYTES = 1000


@given(st.binary(max_size=MAX_BYTES))
def test_a_body_is_inflated_whole(body: bytes) -> None:
    assert inflate(gzip.compress(body, mtime=0), max_bytes=MAX_BYTES) == body


@pytest.mark.parametrize("inflated_bytes", [MAX_BYTES + 1, 1_000_000])
def test_a_gzip_bomb_is_too_large(inflated_bytes: int) -> None:
    with pytest.raises(TooLarge, match="over the limit of 1000 bytes"):
        inflate(gzip.compress(bytes(inflated_bytes), mtime=0), max_bytes=MAX_BYTES)


def test_a_gzip_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflate(bomb, max_bytes=100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[1]", "the body is not gzip"),
        (b"", "truncated"),
        (gzip.compress(b"[1]", mtime=0)[:-1], "truncated"),
        (gzip.compress(b"[1]", mtime=0) + b"x", "extra bytes after"),
        (gzip.compress(b"[1]", mtime=0) * 2, "extra bytes after"),
    ],
)
def test_what_is_no_gzip_is_malformed(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        inflate(body, max_bytes=MAX_BYTES)
