"""Compressed bodies."""

from __future__ import annotations

import zlib

from modelyard.core.errors import Malformed, TooLarge

INLINE_INFLATE_BYTES = 4 * 1024  # deflate makes at most 1,032 bytes of one: some ms of the loop


def inflate(body: bytes | bytearray, *, max_bytes: int) -> bytes:
    """Give what a gzip stream holds.

    Raises:
        TooLarge: It holds more than ``max_bytes``; no more than that is ever inflated.
        Malformed: It is no gzip stream, or not one alone.
    """
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise TooLarge(f"the body has more than {max_bytes} bytes")
    if not inflater.eof:
        raise Malformed("the body is a truncated gzip stream")
    if inflater.unused_data:
        raise Malformed("there is something behind the gzip stream")
    return inflated
