"""Compressed bodies."""

from __future__ import annotations

import zlib

from modelyard.core.errors import Malformed, TooLarge

INLINE_INFLATE_BYTES = 4 * 1024  # deflate expands at most 1,032 times: a few ms on the loop


def inflate(body: bytes | bytearray, *, max_bytes: int) -> bytes:
    """Decompress a gzip stream.

    Raises:
        TooLarge: It expands to more than ``max_bytes``; no more than that is ever decompressed.
        Malformed: It is not exactly one gzip stream.
    """
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise TooLarge(f"the decompressed body is over the limit of {max_bytes} bytes")
    if not inflater.eof:
        raise Malformed("the body is a truncated gzip stream")
    if inflater.unused_data:
        raise Malformed("there are extra bytes after the gzip stream")
    return inflated
