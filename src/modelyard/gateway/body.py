"""The body of a request: read whole, within limits of size and time, inflated, not too deep."""

from __future__ import annotations

import asyncio
import re
import zlib

from modelyard.core.errors import GivenUp, Malformed, TooLarge, TooSlow, WrongMediaType
from modelyard.gateway.types import Headers, Receive

DEEPEST_NESTING = 64
INLINE_INFLATE_BYTES = 4 * 1024  # deflate makes at most 1,032 bytes of one: some ms of the loop
SEARCHED_BYTES = 64 * 1024  # counting brackets in fewer takes microseconds

# Possessive, so that it never goes back: without that, 32 KB of escapes took seconds.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_TOO_DEEP = f"the JSON is nested deeper than {DEEPEST_NESTING}, or its brackets differ"
_AS_ONE_KIND = bytes.maketrans(b"{}", b"[]")


async def read_body(
    receive: Receive, headers: Headers, *, max_bytes: int, timeout_s: float
) -> bytes:
    """Read the body and inflate it if it is gzip.

    Raises:
        TooLarge: It has more than ``max_bytes``: declared, received or inflated.
        TooSlow: It was not there after ``timeout_s``.
        WrongMediaType: Its encoding is not gzip.
        Malformed: It is no gzip though it says so.
        GivenUp: The connection was closed.
    """
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            body = await _read_all(receive, max_bytes=max_bytes)
    except TimeoutError:
        raise TooSlow(f"the body was not complete after {timeout_s:g} s") from None
    encoding = headers.get(b"content-encoding")
    if encoding is None or encoding == b"identity":
        return body
    if encoding.lower() not in (b"gzip", b"x-gzip"):
        raise WrongMediaType("content-encoding must be gzip, or none")
    if len(body) > INLINE_INFLATE_BYTES:
        return await asyncio.to_thread(_inflate, body, max_bytes)
    return _inflate(body, max_bytes)


async def _read_all(receive: Receive, *, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise GivenUp("the client left before its request was read")
        size += len(message["body"])
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message["more_body"] and not pieces:
            return bytes(message["body"])  # nearly always: it came with its headers
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


def _inflate(body: bytes, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise _too_large(max_bytes)
    if not inflater.eof:
        raise Malformed("the body is a truncated gzip stream")
    if inflater.unused_data:
        raise Malformed("there is something behind the gzip stream")
    return inflated


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body has more than {max_bytes} bytes")


def check_nesting(body: bytes | bytearray) -> None:
    """Refuse JSON that is nested deeper than ``DEEPEST_NESTING``.

    Nearly every body has fewer brackets than that and is cleared by counting them. From others all
    but the brackets outside strings is removed, then the innermost pairs, level by level: no Python
    loop runs over the bytes. Where nothing is escaped, what is neither bracket nor quote goes
    first: that is a fifth of the time for an image of a megabyte. All of it goes piece by piece, so
    that no step holds the interpreter for long.

    Raises:
        Malformed: It is too deep.
    """
    if len(body) > SEARCHED_BYTES and b"\\" not in body:
        body = body.translate(None, _NOT_STRUCTURE)
    if body.count(b"[") + body.count(b"{") <= DEEPEST_NESTING:
        return
    depth = 0
    cut = b""  # the quote of a string that the piece before did not end, and the half of an escape
    for start in range(0, len(body), SEARCHED_BYTES):
        piece = cut + body[start : start + SEARCHED_BYTES]
        is_escape_cut = (len(piece) - len(piece.rstrip(b"\\"))) % 2
        whole = piece[: len(piece) - is_escape_cut]
        # A quote behind it ends every string: where there is none to find, the search goes back.
        outside = _STRING.sub(b"", whole + b'"')
        is_string_cut = not outside.endswith(b'"')
        cut = b'"' * is_string_cut + b"\\" * is_escape_cut
        brackets = outside.translate(_AS_ONE_KIND, _NOT_BRACKETS)
        left = depth + brackets.count(b"[") - brackets.count(b"]")
        if not 0 <= left <= DEEPEST_NESTING or _is_deep(b"[" * depth + brackets + b"]" * left):
            raise Malformed(_TOO_DEEP)
        depth = left
    if depth:
        raise Malformed(_TOO_DEEP)


def _is_deep(brackets: bytes) -> bool:
    for _ in range(DEEPEST_NESTING):
        left = brackets.replace(b"[]", b"")
        if len(left) == len(brackets):
            break
        brackets = left
    return bool(brackets)
