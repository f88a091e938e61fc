"""Compressed bodies, against zlib without a limit. The first byte says the coding and the limit."""

from __future__ import annotations

import zlib

from modelyard.core.errors import Malformed, TooLarge
from modelyard.gateway.inflate import WINDOWS, Coding, inflate
from tests.fuzz.refusals import check_refusal


def run(data: bytes) -> None:
    choice, body = (data[0] if data else 0), data[1:]
    coding: Coding = "gzip" if choice & 1 else "deflate"
    limit = 8 * (choice >> 1)
    _check(body, coding, limit)
    packer = zlib.compressobj(1, zlib.DEFLATED, WINDOWS[coding])
    _check(packer.compress(body) + packer.flush(), coding, limit, expected=body)


def _check(body: bytes, coding: Coding, limit: int, expected: bytes | None = None) -> None:
    whole, is_one = _inflate_all(body, coding)
    try:
        inflated = inflate(body, max_bytes=limit, coding=coding)
    except TooLarge as error:
        check_refusal(error)
        assert len(whole) > limit
        return
    except Malformed as error:
        check_refusal(error)
        assert not is_one
        return
    assert is_one
    assert inflated == whole
    assert len(inflated) <= limit
    assert expected is None or inflated == expected


def _inflate_all(body: bytes, coding: Coding) -> tuple[bytes, bool]:
    """Return what zlib makes of a body, and whether that is exactly one stream."""
    inflater, whole = zlib.decompressobj(WINDOWS[coding]), b""
    try:
        for byte in body:  # so that what precedes damage is there
            whole += inflater.decompress(bytes([byte]))
    except zlib.error:
        return whole, False
    return whole, inflater.eof and not inflater.unused_data
