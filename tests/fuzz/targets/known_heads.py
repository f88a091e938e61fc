"""Known heads: a head that is recognised is what parsing it gives.

The input is a head and, each behind a zero byte, changes to its lines: the line's number, and the
new line.
"""

from __future__ import annotations

import re

from modelyard.core.errors import Malformed, RequestError
from modelyard.gateway.heads import END, Head, HeadParser, Plan
from modelyard.gateway.known import KnownHeads
from modelyard.gateway.plans import plan_of

FREE = re.compile(
    rb"x-request-id|x-correlation-id|traceparent|tracestate|b3|x-b3-.*|x-amzn-trace-id|uber-trace-id"
    rb"|x-cloud-trace-context|x-datadog-.*|x-real-ip|x-forwarded-for|x-request-start|date"
)


def run(data: bytes) -> None:
    first, *changes = data.split(b"\0")
    first = _head_of(first)
    learned = _parse(first)
    plan = None if learned is None else _plan(learned)
    if learned is None or plan is None or learned.body_bytes is None:
        return
    known = KnownHeads()
    known.learn(first, learned)
    lines = first.split(b"\r\n")
    for change in filter(None, changes):
        lines[change[0] % len(lines)] = change[1:]
    raw = _head_of(b"\r\n".join(lines))
    recognised = known.recognise(raw)
    if recognised is None:
        assert raw != first or len(first) > 2048, "a head is not recognised that was learned"
        return
    parsed = _parse(raw)
    assert parsed is not None, "a head is recognised that is malformed"
    head, given = recognised
    expected_id = parsed.headers.get(b"x-request-id")
    ids = [line for line in raw.lower().split(b"\r\n") if line.startswith(b"x-request-id:")]
    # An id that is not ASCII is replaced, known or not. Of more than two ids another one may count,
    # and none behind a request line of HTTP/0.9 that ends in a bare line feed: it does no harm.
    is_plain = raw.isascii() and raw.count(b"\n") == raw.count(b"\r\n")
    if len(ids) < 3 and is_plain:
        assert (given and given[0]) == expected_id
    assert _facts(head) == _facts(parsed)
    assert _plan_facts(plan) == _plan_facts(_plan(parsed))


def _head_of(raw: bytes) -> bytes:
    raw += END
    return raw[: raw.index(END) + len(END)]


def _parse(raw: bytes) -> Head | None:
    try:
        return HeadParser().parse(raw)
    except Malformed:
        return None


def _plan(head: Head) -> Plan | None:
    try:
        return plan_of(head)
    except RequestError:
        return None


def _facts(head: Head) -> list[object]:
    headers = {name: value for name, value in head.headers.items() if not FREE.fullmatch(name)}
    facts = (head.method, head.path, head.query, head.body_bytes, head.is_last, head.is_expecting)
    return [*facts, headers]


def _plan_facts(plan: Plan | None) -> list[object]:
    assert plan is not None
    return [plan._replace(door=None), type(plan.door), vars(plan.door) if plan.door else None]
