"""One request between its body and its answer."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from modelyard.dispatch.dispatch import ClientCall
from modelyard.gateway.heads import Plan
from modelyard.gateway.stream_writer import StreamWriter
from modelyard.gateway.types import Respond

Answered = ClientCall | None
"""The call that gave an answer, if it came so far."""


class Asked(NamedTuple):
    """One request, and how it is answered. ``respond`` is a ``StreamWriter`` if the plan says that
    the answer may come in pieces. ``trace``: the line of its ``traceparent``.
    """

    plan: Plan
    request_id: str
    started: float
    respond: Respond
    host: str
    trace: bytes | None = None


def with_lines(lines: bytes, respond: Respond) -> Respond:
    """Return what responds with more header lines."""
    if isinstance(respond, StreamWriter):
        respond.lines += lines
        return respond
    return partial(_respond_with, lines, respond)


def _respond_with(lines: bytes, respond: Respond, head: bytes, body: bytes) -> None:
    respond(head + lines, body)
