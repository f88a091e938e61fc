"""Reads the requests of one connection, within limits on size and time.

Path of a request: received bytes come straight to ``feed``, which is the connection's
``data_received``; a complete request goes to the connection's ``_on_request``. The reader is always
in one of these states:

    IDLE ──bytes──▶ HEAD ──complete─▶ BODY ──complete─▶ ANSWERING ──next()──▶ IDLE
                     │                └── refused ──▶ CLOSED: further bytes are dropped
                     └──▶ STREAMING: the body goes to the page as it comes (``streamed.py``)

Bytes that come while a request is answered wait unparsed. So responses are sent in the order of the
requests, and a client that pipelines many requests cannot exhaust the memory.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from modelyard.core.errors import RequestError, TooSlow
from modelyard.gateway.body import BodyReader
from modelyard.gateway.budget import SMALL_BYTES
from modelyard.gateway.heads import END, MAX_HEAD_BYTES, Head, HeadParser, HeadTooLargeError
from modelyard.gateway.known import Given, KnownHeads, given_in

MOST_AHEAD_BYTES = 64 * 1024  # pipelined bytes that may wait before we stop reading


class State(Enum):
    """The state of a reader."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    STREAMING = auto()
    ANSWERING = auto()
    CLOSED = auto()


class Limits(NamedTuple):
    """Limits on what a client sends, and on how long it takes."""

    header_timeout_s: float
    body_timeout_s: float
    max_body_bytes: int
    max_job_bytes: int = 0

    def most_bytes(self, head: Head) -> int:
        """Return how large a request's body may be. Pages take little, and are answered to callers
        whose key is looked at after the body; a body that is handed on is limited by its page.
        """
        if head.is_streamed:
            return sys.maxsize
        if (plan := head.plan) is None:
            return min(self.max_body_bytes, SMALL_BYTES)
        is_job = plan.order is not None
        return max(self.max_body_bytes, self.max_job_bytes) if is_job else self.max_body_bytes

    def timeout_s(self, head: Head) -> float:
        """Return how long a client may take to send a body; longer for one that only a job has."""
        return self.body_timeout_s * max(1.0, (head.body_bytes or 0) / self.max_body_bytes)


class RequestReader:
    """Reads one request after the other.

    Args:
        owner: The connection's protocol.
        limits: Of what is read.
        known: Heads that were parsed before, on whatever connection.
        on_head: Called with each head; returns why the request is refused, or None.
        on_request: Called with the head of a request, its body, and why it is refused if it is.
        on_expecting: Called when the client sent ``Expect: 100-continue`` and waits.
        on_stream: Called with the head of a request whose body is handed on as it comes; returns
            what takes it.
        on_refused: Called when a request is refused before it is complete, with the error and, if
            it was parsed, the head.
        reserve: Called before memory for so many bytes of a body is taken; raises if there is none.
    """

    def __init__(
        self,
        owner: asyncio.Protocol,
        limits: Limits,
        known: KnownHeads,
        *,
        on_head: Callable[[Head], RequestError | None],
        on_request: Callable[[Head, bytes | bytearray, RequestError | None], None],
        on_expecting: Callable[[], None],
        on_stream: Callable[[Head], Callable[[bytes], None]],
        on_refused: Callable[[RequestError, Head | None], None],
        reserve: Callable[[int], None],
    ) -> None:
        self.state = State.IDLE
        self.known = known
        self.given: Given | None = None  # with the current request
        self._limits = limits
        self._on_head = on_head
        self._on_request = on_request
        self._on_expecting = on_expecting
        self._on_stream = on_stream
        self._reserve = reserve
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = HeadParser()
        self._body = BodyReader(
            owner,
            self._parser,
            reserve=reserve,
            on_whole=self._on_body,
            on_refused=lambda error: on_refused(error, self._head),
        )
        self._head: Head | None = None  # whose body is being read
        self._begun = b""  # the bytes of an incomplete head
        self._checker: HeadParser | None = None  # has been fed these bytes
        self._ahead = b""  # bytes after the request that is being answered
        self._timer: asyncio.TimerHandle | None = None
        self._take: Callable[[bytes], None]  # the next bytes of a body that is handed on

    def open(self, transport: asyncio.Transport) -> None:
        """Wait for the first request, with a timeout."""
        self._transport = transport
        self._arm(self._limits.header_timeout_s, self._on_head_late)

    def feed(self, data: bytes) -> None:
        """Process received bytes."""
        state = self.state
        if state is State.IDLE and not self._ahead:
            self._read_head(data)
        elif state is State.BODY:
            self._body.feed(data)
        elif state is State.HEAD:
            self._read_head(self._begun + data)
        elif state is State.STREAMING:
            self._take(data)
        elif state is not State.CLOSED:  # it comes behind what waits already
            self._ahead += data
            if len(self._ahead) > MOST_AHEAD_BYTES:
                self._transport.pause_reading()

    def take_more(self) -> None:
        """Let more bytes come, unless there are too many already."""
        if len(self._ahead) <= MOST_AHEAD_BYTES:
            self._transport.resume_reading()

    @property
    def is_behind(self) -> bool:
        """Whether bytes wait after the request that is being answered."""
        return bool(self._ahead)

    def next(self) -> None:
        """Read the next request: the current one is answered."""
        self.state = State.IDLE

    def go_on(self) -> None:
        """Read the bytes that wait after the last request."""
        if self.state is State.IDLE:
            ahead, self._ahead = self._ahead, b""
            self._transport.resume_reading()
            if ahead:
                self._read_head(ahead)

    def close(self) -> None:
        """Drop all further bytes."""
        self.state = State.CLOSED
        self._disarm()
        self._begun = self._ahead = b""
        self._body.give_up()

    def _read_head(self, data: bytes) -> None:
        end = data.find(END) + 4
        if end < 4:
            self._await_head(data)
            return
        raw = data[:end]
        recognised = self.known.recognise(raw)
        if recognised is not None:
            head, self.given = recognised
            size = head.body_bytes
            if size == len(data) - end and not head.is_large:
                if self._timer is not None:
                    self._disarm()
                self.state = State.ANSWERING
                self._on_request(head, data[end:], None)
                return
            if head.is_large:
                self._await_body(head, data[end:], self._on_head(head))
                return
        self._read_unknown_head(raw, data[end:])

    def _read_unknown_head(self, raw: bytes, rest: bytes) -> None:
        """Parse a head, and begin with its body."""
        self._begun, self._checker = b"", None
        try:
            if len(raw) > MAX_HEAD_BYTES:
                raise HeadTooLargeError(f"headers may have {MAX_HEAD_BYTES} bytes")
            head = self._parser.parse(raw)
        except RequestError as error:
            self._on_refused(error, None)
            return
        if head is None:  # empty lines
            self.state = State.IDLE
            if rest := rest.lstrip(b"\r\n"):
                self._read_head(rest)
            return
        self.given = given_in(head)
        refusal = self._on_head(head)
        if head.is_streamed and refusal is None:
            self._disarm()
            self.state = State.STREAMING
            self._take = self._on_stream(head)
            self._take(rest)
            return
        size = head.body_bytes
        if size is None or size > len(rest) or head.is_expecting:
            is_ordinary = head.plan is not None and not (refusal or head.is_expecting)
            if is_ordinary and head.is_large:
                self.known.learn(raw, head)
            self._await_body(head, rest, refusal)
            return
        if size > SMALL_BYTES:
            try:
                self._reserve(size)
            except RequestError as error:
                self._on_refused(error, head)
                return
        elif refusal is None and head.plan is not None and size == len(rest):
            self.known.learn(raw, head)
        self._disarm()
        if size:
            self._parser.pass_body(rest[:size])
        self._ahead = rest[size:]
        self.state = State.ANSWERING
        self._on_request(head, rest[:size], refusal)

    def _await_head(self, begun: bytes) -> None:
        """Wait for the rest of a head, with a timeout. Empty lines may precede one."""
        begun = begun.lstrip(b"\r\n")
        if not begun:
            self.state, self._begun = State.IDLE, b""
            return
        if self.state is not State.HEAD or self._checker is None:
            self._begun, self._checker = b"", HeadParser()
        piece, self._begun = begun[len(self._begun) :], begun
        try:
            if len(begun) > MAX_HEAD_BYTES:
                raise HeadTooLargeError(f"headers may have {MAX_HEAD_BYTES} bytes")
            self._checker.check(piece)
        except RequestError as error:
            self._on_refused(error, None)
            return
        self.state = State.HEAD
        if self._timer is None:
            self._arm(self._limits.header_timeout_s, self._on_head_late)

    def _await_body(self, head: Head, begun: bytes, refusal: RequestError | None) -> None:
        """Wait for the rest of a body, with a timeout; not at all if the request is refused."""
        if refusal is not None:
            self._on_refused(refusal, head)
            return
        self.state, self._head = State.BODY, head
        self._disarm()
        self._arm(self._limits.timeout_s(head), self._on_body_late)
        if head.is_expecting:
            self._on_expecting()
        self._body.begin(
            head.body_bytes,
            begun,
            max_bytes=self._limits.most_bytes(head),
            transport=self._transport,
        )

    def _on_body(self, body: bytes | bytearray, rest: bytes) -> None:
        """Continue with a request whose body is now complete."""
        self._ahead = rest
        self._disarm()
        head, self._head = self._head, None
        assert head is not None
        self.state = State.ANSWERING
        self._on_request(head, body, None)

    def _arm(self, seconds: float, on_late: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, on_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_head_late(self) -> None:
        if self.state is State.HEAD:
            limit = f"{self._limits.header_timeout_s:g} s"
            self._on_refused(TooSlow(f"the headers were not complete after {limit}"), None)
        else:
            self._transport.close()  # it sent no request, so it expects no response

    def _on_body_late(self) -> None:
        limit = f"{self._limits.timeout_s(self._head):g} s" if self._head is not None else "so long"
        self._on_refused(TooSlow(f"the body was not complete after {limit}"), self._head)
