"""The head of a request (request line and headers), parsed by httptools (llhttp).

The parser is fed one head at a time, so everything it reports belongs to one request. Its callbacks
are methods of built-in types, so no Python code runs per header.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

from modelyard.access.gate import Credential
from modelyard.core.errors import Malformed, RequestError
from modelyard.core.messages import Form
from modelyard.core.routes import UNKNOWN, Who
from modelyard.gateway.budget import SMALL_BYTES
from modelyard.gateway.inflate import Coding
from modelyard.gateway.types import Headers

if TYPE_CHECKING:
    from modelyard.gateway.door import Door
    from modelyard.gateway.orders import Order

END = b"\r\n\r\n"
MAX_HEAD_BYTES = 32 * 1024
_FOLD = re.compile(rb"\r\n[ \t]")
_HOST = re.compile(rb"^host:([^\r\n]*)\r$", re.IGNORECASE | re.MULTILINE)
_AUTHORITY = re.compile(rb"[\w.~%!$&'()*+,;=:\[\]-]*", re.ASCII)
_UPGRADE = re.compile(rb"^upgrade[ \t]*:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


class HeadTooLargeError(RequestError):
    """The request line and headers, or the chunk framing of the body, are over the limit."""

    code = "headers_too_large"


class Plan(NamedTuple):
    """How to read and answer a prediction, as determined by its head.

    ``coding``: how the body is compressed. ``name`` and ``version``: from the URL; None if the body
    names them. ``upload``: content type of a body that holds files. ``cors``: CORS header lines of
    the response. ``door``: translates, where it is not the protocol of ``/predict``.
    ``credential``: what tells who asks; see ``access/gate.py``. ``who``: what else the headers say
    of that. ``may_stream``: whether its door may answer in pieces. ``order``: the job that is made
    of it; it has a door then. None if it is answered at once.
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
    credential: Credential = b""
    who: Who = UNKNOWN
    may_stream: bool = False
    order: Order | None = None


class Head:
    """One request's head.

    Attributes:
        raw: The head as received.
        path: The path, percent-decoded, without the query.
        query: The query, as received.
        headers: By name in lower case; of several with one name the last.
        body_bytes: Length of the body that follows; None if it is chunked.
        is_last: Whether the connection is to be closed after the response.
        is_expecting: Whether the client waits for ``100 Continue`` before it sends the body.
        is_large: Whether room has to be reserved for the body.
        is_streamed: Whether the body is handed on as it comes; set by the connection.
        plan: How it is answered, if it is a prediction; set by the endpoint.
    """

    __slots__ = (
        "body_bytes",
        "headers",
        "is_expecting",
        "is_large",
        "is_last",
        "is_streamed",
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
            self.body_bytes: int | None = (size := int(length))
            self.is_large = size > SMALL_BYTES
        else:
            self.is_large = False
            self.body_bytes = None if b"transfer-encoding" in headers else 0
        self.is_last = is_last
        self.is_expecting = b"expect" in headers
        self.is_streamed = False
        self.plan: Plan | None = None

    @property
    def is_of_http_1_0(self) -> bool:
        """Whether the client speaks HTTP/1.0, which has no chunks."""
        return self.raw.partition(b"\r\n")[0].endswith(b" HTTP/1.0")

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return all headers: names in lower case, and values."""
        lines = (line.partition(b":") for line in self.raw.split(b"\r\n")[1:-2])
        return [(name.lower(), value.strip()) for name, _, value in lines]


class HeadParser:
    """Parses the heads of one connection, and the chunked bodies that follow them."""

    def __init__(self) -> None:
        self._urls: list[bytes] = []
        self._fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._is_whole = self._is_last = False
        self._method = b""
        self._version = ""
        self._tail = b""  # of what was fed of a chunked body
        # Called by the parser.
        self.on_url = self._urls.append
        self.on_header = self._fields.__setitem__
        self.on_body = self._pieces.append
        self._parser = self._new_parser()

    def on_headers_complete(self) -> None:
        """Keep what the parser drops once the message is complete (called by the parser)."""
        self._method = self._parser.get_method()
        self._version = self._parser.get_http_version()
        self._is_last = not self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Note that a chunked body is complete (called by the parser)."""
        self._is_whole = True

    def parse(self, raw: bytes) -> Head | None:
        """Parse a complete head; None for empty lines, which may precede a head.

        Raises:
            Malformed: It is not HTTP, or not so that everybody reads it alike.
        """
        if _FOLD.search(raw) is not None:  # whoever stands before us may see other headers
            raise Malformed("a header must stand on one line")
        urls, fields = self._urls, self._fields
        self._tail = b""
        urls.clear()
        fields.clear()
        raw = self._feed(raw)
        if not urls:
            return None
        values = map(bytes.strip, fields.values())
        headers = dict(zip(map(bytes.lower, fields), values, strict=True))
        path, query = _split(b"".join(urls))
        head = Head(raw, self._method, path, headers, is_last=self._is_last, query=query)
        if self._method == b"CONNECT" and head.body_bytes != 0:
            # It has none (RFC 9110, 9.3.6), and the parser would take one for the next head.
            raise Malformed("a CONNECT request has no body")
        if self._version != "1.1" and (self._version != "1.0" or head.body_bytes is None):
            # What is older has no headers, and none before 1.1 has chunks (RFC 9112, 6.1).
            raise Malformed("this server speaks HTTP/1.1, and HTTP/1.0 without chunks")
        hosts = _HOST.findall(raw)
        if len(hosts) > 1:  # whoever stands before us may go by another one (RFC 9112, 3.2)
            raise Malformed("a request has one Host header")
        if hosts and _AUTHORITY.fullmatch(hosts[0].strip()) is None:
            raise Malformed("the Host header is no host")
        return head

    def pass_body(self, body: bytes) -> None:
        """Skip the body of the last head, which is complete."""
        self._feed_parser(body)
        self._pieces.clear()

    def skip_body(self) -> None:
        """Expect the next head: the last body was read without the parser."""
        self._parser = self._new_parser()

    def feed_chunks(self, data: bytes) -> tuple[list[bytes], bytes, bool]:
        """Return what ``data`` holds of a chunked body: its pieces, what stands behind the body's
        end, and whether that has come.

        Raises:
            Malformed: The chunks are malformed.
        """
        self._is_whole = False
        position = 0
        # A chunked body ends with an empty line, and nowhere else: so the parser is fed up to the
        # next one at a time. The first may have begun in what came before.
        seam = (self._tail + data[: len(END) - 1]).find(END)
        end = seam + len(END) - len(self._tail) if seam >= 0 else 0
        while position < len(data) and not self._is_whole:
            if end <= position:
                found = data.find(END, position)
                end = len(data) if found < 0 else found + len(END)
            self._feed_parser(data[position:end])
            position = end
        self._tail = (self._tail + data)[1 - len(END) :]
        pieces = self._pieces[:]
        self._pieces.clear()
        return pieces, data[position:], self._is_whole

    def check(self, piece: bytes) -> None:
        """Check the next piece of a head, which is not complete with it.

        Raises:
            Malformed: It is not HTTP.
        """
        self._feed_parser(piece)

    def _feed(self, raw: bytes) -> bytes:
        """Parse a head. An ``Upgrade`` header is ignored; with it the parser would skip the body.
        Java's own HTTP client sends one to offer HTTP/2.
        """
        try:
            self._parser.feed_data(raw)
        except HttpParserUpgrade:
            self._parser = self._new_parser()
            if self._method == b"CONNECT":
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
    """Return path and query of a request target, the path percent-decoded."""
    try:
        parsed = parse_url(url)
    except HttpParserError:
        return url, b""  # authority form, or an asterisk: not a path
    return unquote_to_bytes(parsed.path or b"/"), parsed.query or b""
