"""The head of a request: request line and headers, parsed by httptools (llhttp).

The parser is fed one head at a time, so what it is told belongs to one request, and its callbacks
are methods of built-in types: no Python code runs per header.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

from modelyard.core.errors import Malformed, RequestError
from modelyard.core.messages import Form
from modelyard.gateway.inflate import Coding
from modelyard.gateway.types import Headers

if TYPE_CHECKING:
    from modelyard.gateway.door import Door

END = b"\r\n\r\n"
MAX_HEAD_BYTES = 32 * 1024
_UPGRADE = re.compile(rb"^upgrade[ \t]*:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


class HeadTooLargeError(RequestError):
    """The request's line and headers are over the limit, or what surrounds its chunked body."""

    code = "headers_too_large"


class Plan(NamedTuple):
    """What the head of a prediction says of its body and its answer.

    ``coding``: how the body is compressed. ``name`` and ``version``: as the address says; None
    where the body does. ``upload``: the content type of a body that is files. ``cors``: header
    lines of the answer, for a page of another origin that may see it. ``door``: translates, where
    it is not the protocol of ``/predict``.
    """

    form: Form
    is_bypass: bool
    coding: Coding
    name: str | None = None
    version: str | None = None
    upload: bytes = b""
    query: bytes = b""
    cors: bytes = b""
    door: Door | None = None


class Head:
    """One request's head.

    Attributes:
        raw: As it came.
        path: Without query and percent-encoding.
        query: What stands behind the question mark, as it came.
        headers: By their names in lower case; the last one of a name.
        body_bytes: The length of the body that follows; None where it is chunked.
        is_last: Whether the client wants the connection closed after the answer.
        is_expecting: Whether it waits for a word of ours before it sends the body.
        plan: How it is answered, if it asks for a prediction; noted by whoever answers.
    """

    __slots__ = (
        "body_bytes",
        "headers",
        "is_expecting",
        "is_last",
        "method",
        "path",
        "plan",
        "query",
        "raw",
    )

    def __init__(
        self,
        raw: bytes,
        method: bytes,
        path: bytes,
        headers: Headers,
        *,
        is_last: bool,
        query: bytes = b"",
    ) -> None:
        self.raw = raw
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        length = headers.get(b"content-length")
        if length is not None:
            self.body_bytes: int | None = int(length)
        else:
            self.body_bytes = None if b"transfer-encoding" in headers else 0
        self.is_last = is_last
        self.is_expecting = b"expect" in headers
        self.plan: Plan | None = None


class HeadParser:
    """Parses the heads of one connection, and the chunked bodies behind them."""

    def __init__(self) -> None:
        self._urls: list[bytes] = []
        self._fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._is_whole = self._is_last = False
        # Called by the parser.
        self.on_url = self._urls.append
        self.on_header = self._fields.__setitem__
        self.on_body = self._pieces.append
        self._parser = self._new_parser()

    def on_headers_complete(self) -> None:
        """Note what the parser forgets once the message is complete (called by the parser)."""
        self._is_last = not self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Note that a chunked body is whole (called by the parser)."""
        self._is_whole = True

    def parse(self, raw: bytes) -> Head | None:
        """Parse a head, given whole; None for the empty lines that may stand before one.

        Raises:
            Malformed: It is no HTTP.
        """
        urls, fields = self._urls, self._fields
        urls.clear()
        fields.clear()
        raw, parser = self._feed(raw), self._parser
        if not urls:
            return None
        headers = dict(zip(map(bytes.lower, fields), fields.values(), strict=True))
        path, query = _split(b"".join(urls))
        method = parser.get_method()
        return Head(raw, method, path, headers, is_last=self._is_last, query=query)

    def pass_body(self, body: bytes) -> None:
        """Go past the body of the last head, which is here whole."""
        self._feed_parser(body)
        self._pieces.clear()

    def skip_body(self) -> None:
        """Expect the next head: the body of the last one has been read past the parser."""
        self._parser = self._new_parser()

    def feed_chunks(self, data: bytes) -> tuple[list[bytes], bytes, bool]:
        """Give what ``data`` holds of a chunked body: its pieces, what stands behind the body's
        end, and whether that has come.

        Raises:
            Malformed: It is not chunked as it says.
        """
        self._is_whole = False
        position = 0
        while position < len(data) and not self._is_whole:
            # A chunked body ends with an empty line, and nowhere else.
            end = data.find(END, position)
            end = len(data) if end < 0 else end + len(END)
            self._feed_parser(data[position:end])
            position = end
        pieces = self._pieces[:]
        self._pieces.clear()
        return pieces, data[position:], self._is_whole

    @staticmethod
    def check(raw: bytes) -> None:
        """Raise what is wrong with the beginning of a head, if it can be told already.

        Raises:
            Malformed: It is no HTTP.
        """
        HeadParser()._feed(raw)

    def _feed(self, raw: bytes) -> bytes:
        """Parse a head. An offer of another protocol (``Upgrade``) is not taken, as if it were not
        there; the parser would skip the body. Java's own client offers HTTP/2 so.
        """
        try:
            self._parser.feed_data(raw)
        except HttpParserUpgrade:
            self._parser = self._new_parser()
            if raw.startswith(b"CONNECT "):
                return raw
            self._fields.clear()
            self._urls.clear()
            raw = _UPGRADE.sub(b"", raw)
            self._feed_parser(raw)
        except HttpParserError as error:
            raise Malformed(f"this is no HTTP: {error}") from None
        return raw

    def _feed_parser(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise Malformed(f"this is no HTTP: {error}") from None

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser


def _split(url: bytes) -> tuple[bytes, bytes]:
    """Give path and query of a request's target, the path without percent-encoding."""
    try:
        parsed = parse_url(url)
    except HttpParserError:
        return url, b""  # an authority, or an asterisk: no path of ours
    return unquote_to_bytes(parsed.path or b"/"), parsed.query or b""
