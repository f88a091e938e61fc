"""Chunked bodies: the same however they are cut, and the same as a simple decoder says.

The first byte says how long the pieces are; the rest is the body, and what follows it.
"""

from __future__ import annotations

from modelyard.core.errors import Malformed
from modelyard.gateway.heads import HeadParser
from tests.fuzz.refusals import check_refusal

HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"

Read = tuple[bytes, bytes, bool]
"""The body, what follows it, and whether its end has come."""


def run(data: bytes) -> None:
    step, data = 1 + (data[0] if data else 0), data[1:]
    whole, in_pieces = _read(data, len(data) or 1), _read(data, step)
    assert whole == in_pieces, (whole, in_pieces)
    if whole is not None and whole[2]:
        assert whole[:2] == _decode(data)


def _read(data: bytes, step: int) -> Read | None:
    """Feed ``data`` in pieces; None if it is refused."""
    parser, body = HeadParser(), b""
    assert parser.parse(HEAD) is not None
    try:
        for start in range(0, len(data), step):
            pieces, rest, is_whole = parser.feed_chunks(data[start : start + step])
            body += b"".join(pieces)
            if is_whole:
                return body, rest + data[start + step :], True
            assert not rest
    except Malformed as error:
        check_refusal(error)
        return None
    return body, b"", False


def _decode(data: bytes) -> tuple[bytes, bytes]:
    """Decode a valid body (RFC 9112, 7.1)."""
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        body += data[:size]
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
    while line := data.partition(b"\r\n")[0]:  # trailers
        data = data[len(line) + 2 :]
    return body, data[2:]
