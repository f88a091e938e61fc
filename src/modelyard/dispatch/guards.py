"""Guards of routes: they look at the answers of versions, and take out one that is worse.

A guard does not see requests that name a version, since a caller could take it out with what it
sends there; those of low priority, which wait for others; what the cache answers, which knows one
version better than the other; and those whose caller has left, or waits for less time than the
model takes for itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from modelyard.core.clock import Clock
from modelyard.core.errors import DeadlineExceeded, GivenUp
from modelyard.core.routes import Guard

if TYPE_CHECKING:
    from modelyard.dispatch.dispatch import Ask, ClientCall

CHECK_EVERY = 10  # answers
ERRORS = frozenset(("model_failed", "model_crashed", "deadline_exceeded"))
NOT_ASKED = frozenset(("hit", "coalesced"))


class Guarded:
    """One version, by its last answers.

    Args:
        guard: The route's.
        main: The version that it is compared with; None for that one itself.
        take_out: Called with the reason when it is worse.
    """

    def __init__(self, guard: Guard, main: Guarded | None, take_out: Callable[[str], None]) -> None:
        self._guard = guard
        self._main = main
        self._take_out = take_out
        self._seconds: deque[float] = deque(maxlen=guard.over)
        self._failed: deque[bool] = deque(maxlen=guard.over)
        self._count = 0

    def watch(self, ask: Ask, call: ClientCall, clock: Clock) -> None:
        """Look at the answer of a request, if it says something of the version."""
        if ask.model_version is None and ask.priority != "low":
            call.watch(partial(self._on_answered, ask.timeout_s, clock(), clock))

    def _on_answered(
        self, timeout_s: float | None, started: float, clock: Clock, call: ClientCall
    ) -> None:
        if call.cache_use in NOT_ASKED:
            return
        outcome = call.outcome
        if isinstance(outcome, bytes):
            self._seconds.append(clock() - started)
            self._failed.append(False)
        elif isinstance(outcome, GivenUp) or outcome is None:
            return
        else:
            own_s = call.entry.announcement.limits.timeout_s
            is_short = timeout_s is not None and timeout_s < own_s
            if is_short and isinstance(outcome, DeadlineExceeded):
                return
            self._failed.append(outcome.code in ERRORS)
        self._count += 1
        if self._main is not None and not self._count % CHECK_EVERY:
            self._compare(self._main)

    def _compare(self, main: Guarded) -> None:
        guard = self._guard
        if min(len(self._failed), len(main._failed)) < guard.over / 5:
            return
        errors, p99_s, main_p99_s = self._errors, self._p99_s, main._p99_s
        if errors > main._errors + guard.errors:
            self._take_out(
                f"{errors:.0%} of its requests fail, and {main._errors:.0%} of the main version's"
            )
        elif main_p99_s and p99_s > guard.slower * main_p99_s:
            self._take_out(
                f"its p99 is {p99_s:.3g} s, and that of the main version {main_p99_s:.3g} s"
            )

    @property
    def _errors(self) -> float:
        """The share of those that failed."""
        return sum(self._failed) / max(1, len(self._failed))

    @property
    def _p99_s(self) -> float:
        """Their 99th percentile; 0 if none was answered."""
        ordered = sorted(self._seconds)
        return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else 0.0
