"""A cache of parsed heads, looked up by their lines.

A client sends the same request line and headers again and again, except for headers that identify
a request, such as ``x-request-id`` or ``traceparent``. A head with the same lines in the same order
as a parsed one is equivalent to it. Only lines whose header cannot change how a request is read may
differ. A look-up costs a fifth of parsing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from modelyard.gateway.heads import Head

MOST_KNOWN = 1024  # lines, and heads
LONGEST_KNOWN_BYTES = 2048

_FREE = (
    rb"(?:(x-request-id)|(traceparent)|x-correlation-id|tracestate|b3|x-b3-[a-z]+|x-amzn-trace-id"
    rb"|x-cloud-trace-context|x-datadog-[a-z-]+|uber-trace-id|x-real-ip"
    rb"|x-request-start|date%b):[\t -~]*"
)
_ID = 1  # the group that has matched
_ID_BYTES = len(b"x-request-id:")
_FREE_OF_ONE = re.compile(_FREE % b"|x-forwarded-for", re.IGNORECASE)
_FREE_OF_MANY = re.compile(_FREE % b"", re.IGNORECASE)


def may_differ(name: str) -> bool:
    """Return whether requests that are answered alike may differ in this header."""
    return _FREE_OF_ONE.fullmatch(f"{name}:".encode()) is not None


Given = tuple[bytes | None, bytes | None]
"""What tells a request from others, and so is in no plan: the client's own id of it, and its line
``traceparent: …``.
"""


def given_in(head: Head) -> Given | None:
    """Return what a head that was parsed says of its request alone."""
    given_id, trace = head.headers.get(b"x-request-id"), head.headers.get(b"traceparent")
    if given_id is None and trace is None:
        return None
    return given_id, None if trace is None else b"traceparent:" + trace


def id_in(given: Given | None) -> bytes | None:
    """Return the client's own id of a request."""
    return None if given is None else given[0]


class Recognised(NamedTuple):
    """A known head, and what the received one says of its request alone."""

    head: Head
    given: Given | None


class _Form(NamedTuple):
    head: Head
    free: tuple[int, ...]  # the indices of the lines that may differ


class KnownHeads:
    """The heads of all connections of one server.

    Args:
        has_one_client: Whether a connection stands for one client, whatever its requests say of
            where they come from.
    """

    def __init__(self, *, has_one_client: bool = True) -> None:
        self._match_free = (_FREE_OF_ONE if has_one_client else _FREE_OF_MANY).fullmatch
        self._lines: dict[bytes, int] = {}
        self._forms: dict[tuple[int | None, ...], _Form] = {}

    def recognise(self, raw: bytes) -> Recognised | None:
        """Return the parsed head of ``raw``, if it is known."""
        lines = raw.split(b"\r\n")
        form = self._forms.get(tuple(map(self._lines.get, lines)))
        if form is None:
            return None
        if not form.free:
            return Recognised(form.head, None)
        given_id = trace = None
        for number in form.free:
            line = lines[number]
            if (found := self._match_free(line)) is None:
                return None
            if kind := found.lastindex:
                if kind == _ID:
                    given_id = line[_ID_BYTES:].strip()
                else:
                    trace = line
        return Recognised(form.head, (given_id, trace))

    def learn(self, raw: bytes, head: Head) -> None:
        """Remember a head that was parsed."""
        if len(raw) > LONGEST_KNOWN_BYTES:
            return
        if len(self._lines) >= MOST_KNOWN or len(self._forms) >= MOST_KNOWN:
            self._lines.clear()
            self._forms.clear()
        known, free = self._lines, list[int]()
        key: list[int | None] = []
        for number, line in enumerate(raw.split(b"\r\n")):
            if self._match_free(line) is None:
                key.append(known.setdefault(line, len(known)))
            else:
                key.append(None)
                free.append(number)
        self._forms[tuple(key)] = _Form(head, tuple(free))
