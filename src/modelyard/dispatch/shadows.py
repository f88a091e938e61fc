"""Shadows: copies of requests for a version that answers nobody, and how its answers compare.

A copy has low priority, and is dropped where it does not fit. Whatever becomes of it, the request
that it was copied from is not touched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec

from modelyard.core.call import Call, Outcome
from modelyard.core.clock import Clock
from modelyard.core.errors import DeadlineExceeded, GivenUp
from modelyard.core.messages import Form, Request
from modelyard.core.names import Target
from modelyard.core.routes import ALL, Shadow
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.dispatch.interfaces import DispatchMetrics

Result = Literal["same", "different", "failed", "dropped"]

LARGEST_COMPARED_BYTES = 16 * 1024  # number by number; larger answers are the same byte by byte
CLOSE = 1e-5  # how far numbers may differ, relatively, and still be the same

log = logging.getLogger(__name__)


class Shadows:
    """Sends copies, and compares.

    Args:
        catalog: All targets.
        metrics: Receives what came of each copy.
        send: Sends a call; settles it if it cannot be sent.
        clock: For deadlines and durations.
    """

    def __init__(
        self,
        catalog: Catalog,
        metrics: DispatchMetrics,
        *,
        send: Callable[[Entry, Call], None],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._send = send
        self._clock = clock

    def follow(self, shadow: Shadow, call: Call, chance: Random) -> None:
        """Send a copy of a call to its shadow, if it is this one's turn."""
        try:
            if chance.random() * ALL < shadow.percent:
                self._copy(shadow, call)
        except Exception:  # a shadow must never harm a request
            log.exception("shadow_failed", extra={"id": call.request.id})

    def _copy(self, shadow: Shadow, call: Call) -> None:
        request, now = call.request, self._clock()
        target = Target(request.target.name, shadow.version)
        entry = self._catalog.find(target)
        if entry is None or not entry.is_open or target == request.target:
            return
        limits = entry.announcement.limits
        if entry.in_flight >= limits.max_in_flight:
            self._metrics.shadowed(target, "dropped", 0.0)
            return
        deadline = now + limits.timeout_s
        copy = Request(request.id, target, request.input, deadline, "low", request.form)
        pair = _Pair(self._metrics, target, request.form, now, self._clock)
        call.watch(pair.answered)
        self._send(entry, Call(copy, pair.shadowed))


class _Pair:
    """A request and its copy, until both have an outcome."""

    def __init__(
        self, metrics: DispatchMetrics, target: Target, form: Form, began: float, clock: Clock
    ) -> None:
        self._metrics = metrics
        self._target = target
        self._form = form
        self._began = began
        self._clock = clock
        self._answer: Outcome | None = None
        self._copy: Outcome | None = None
        self._seconds = 0.0

    def answered(self, call: Call) -> None:
        """Note the request's outcome."""
        self._answer = call.outcome
        self._compare()

    def shadowed(self, call: Call) -> None:
        """Note the copy's outcome."""
        self._copy, self._seconds = call.outcome, self._clock() - self._began
        self._compare()

    def _compare(self) -> None:
        if self._answer is None or self._copy is None:
            return
        if isinstance(self._answer, GivenUp | DeadlineExceeded):
            return  # nobody knows what the answer would have been
        result: Result = "failed"
        if isinstance(self._copy, bytes):
            is_same = isinstance(self._answer, bytes) and _are_same(
                self._answer, self._copy, self._form
            )
            result = "same" if is_same else "different"
        self._metrics.shadowed(self._target, result, self._seconds)


def _are_same(one: bytes, other: bytes, form: Form) -> bool:
    if one == other:
        return True
    if form != "json" or max(len(one), len(other)) > LARGEST_COMPARED_BYTES:
        return False
    return _are_close(msgspec.json.decode(one), msgspec.json.decode(other))


def _are_close(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_close(one[k], other[k]) for k in one)
    if isinstance(one, float) or isinstance(other, float):
        are_numbers = isinstance(one, int | float) and isinstance(other, int | float)
        return are_numbers and math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(one == other)
