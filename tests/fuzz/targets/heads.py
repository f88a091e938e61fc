"""Heads of HTTP requests: they are refused, or the next request begins where this one ends."""

from __future__ import annotations

from modelyard.core.errors import Malformed, RequestError
from modelyard.gateway.heads import END, Head, HeadParser
from modelyard.gateway.plans import plan_of
from tests.fuzz.refusals import check_refusal

LONGEST_BODY = 4096
NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"


def run(data: bytes) -> None:
    raw = data + END
    raw = raw[: raw.index(END) + len(END)]
    parser = HeadParser()
    try:
        head = parser.parse(raw)
    except Malformed as error:
        check_refusal(error)
        return
    if head is None:
        assert not raw.strip(b"\r\n"), "a head was taken for empty lines"
        return
    assert raw.lstrip(b"\r\n").startswith(head.method + b" ")
    checker, step = HeadParser(), 1 + len(raw) // 8
    for begin in range(0, len(raw) - step, step):
        checker.check(raw[begin : begin + step])  # what is valid is not refused while it comes
    if not head.is_last:
        _check_framing(parser, head)
    try:
        plan_of(head)
    except RequestError as error:
        check_refusal(error)


def _check_framing(parser: HeadParser, head: Head) -> None:
    """Check that the parser and ``body_bytes`` agree on where the body ends."""
    size = head.body_bytes
    if size is None:
        pieces, rest, is_whole = parser.feed_chunks(b"1\r\nx\r\n0\r\n\r\n" + NEXT)
        assert (b"".join(pieces), rest, is_whole) == (b"x", NEXT, True)
    elif size > LONGEST_BODY:
        parser.skip_body()
    elif size:
        parser.pass_body(b"x" * size)
    after = parser.parse(NEXT)
    assert after is not None
    assert (after.method, after.path, after.body_bytes) == (b"GET", b"/next", 0)
