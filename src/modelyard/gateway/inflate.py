"""Compressed bodies."""

from __future__ import annotations

import zlib
from typing import Literal

from modelyard.core.errors import Malformed, TooLarge

INLINE_INFLATE_BYTES = 4 * 1024  # deflate expands at most 1,032 times: a few ms on the loop


Coding = Literal["", "gzip", "deflate"]
"""Of a body; the last is a zlib stream (RFC 9110)."""

WINDOWS: dict[Coding, int] = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""What zlib calls each."""


def inflate(body: bytes | bytearray, *, max_bytes: int, coding: Coding = "gzip") -> bytes:
    """Decompress a body.

    Raises:
        TooLarge: It expands to more than ``max_bytes``; no more than that is ever decompressed.
        Malformed: It is not exactly one such stream.
    """
    inflater = zlib.decompressobj(WINDOWS[coding])
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not {coding}: {error}") from None
    if len(inflated) > max_bytes:
        raise TooLarge(f"the decompressed body is over the limit of {max_bytes} bytes")
    if not inflater.eof:
        raise Malformed(f"the body is a truncated {coding} stream")
    if inflater.unused_data:
        raise Malformed(f"there are extra bytes after the {coding} stream")
    return inflated
