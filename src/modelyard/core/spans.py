"""Spans: what a trace says of one request, and how W3C Trace Context names it.

A request is *traced* if its spans are recorded: then its ``Trail`` says since when. Each part makes
spans of what it did after it was done, and hands them to a ``Record``.

    span                    made by
    predict MODEL           gateway/traced.py, when the request is answered
    submit MODEL            gateway/traced.py, when a job is kept; for each attempt at it
    job MODEL               jobs/attempts.py
    queue, process          pool/spans.py in a worker: time in the broker; time in the worker
    wait, batch             pool/spans.py: until a runner was free; while the runner had it
    run, predict            runner/spans.py: decoding, predicting, encoding; the model alone

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Literal, NamedTuple

RUNNER_TRACES = "MODELYARD_RUNNER_TRACES"
"""The variable by which a runner is told to make spans, and where to send them."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1

FAULTS = frozenset(
    (
        *("model_failed", "model_crashed", "stream_broken", "deadline_exceeded"),
        *("unavailable", "internal"),
    )
)
"""Codes of answers that are recorded though nobody asked for it."""

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool


class Context(NamedTuple):
    """A span as others refer to it: the ids of its trace and of itself, in hexadecimal."""

    trace_id: str
    span_id: str

    def traceparent(self) -> str:
        """Return the header that makes it the parent of another span, which is recorded too."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Parent(NamedTuple):
    """The span of a caller, and whether the caller records its own."""

    context: Context
    is_sampled: bool

    def traceparent(self) -> str:
        """Return the header that says it."""
        return f"00-{self.context.trace_id}-{self.context.span_id}-{int(self.is_sampled):02x}"


class Span(NamedTuple):
    """One span that has ended.

    Attributes:
        name: What was done.
        context: Its ids.
        parent_id: The span that it is part of; empty for none.
        began: Unix time in seconds.
        ended: Unix time in seconds.
        kind: As OpenTelemetry has it.
        attributes: What else is known.
        links: Other spans that it has to do with: those of the requests in the same batch.
        error: What went wrong; empty for nothing.
    """

    name: str
    context: Context
    parent_id: str
    began: float
    ended: float
    kind: Kind = "internal"
    attributes: Mapping[str, Value] = {}
    links: tuple[Context, ...] = ()
    error: str = ""


Record = Callable[[Span], None]
"""Takes a span; never waits."""


class Ids:
    """Draws ids of traces and spans."""

    def __init__(self, chance: Random) -> None:
        self._bits = chance.getrandbits

    def trace(self) -> str:
        """Return the id of a new trace."""
        return f"{self._bits(128) or 1:032x}"

    def span(self) -> str:
        """Return the id of a new span."""
        return f"{self._bits(64) or 1:016x}"


def parent_of(traceparent: str) -> Parent | None:
    """Return what a header says; None if it is not valid, as if there were none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    is_unknown = version == "ff" or (version == "00" and rest)
    if is_unknown or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Parent(Context(trace_id, span_id), bool(int(flags, 16) & _SAMPLED))
