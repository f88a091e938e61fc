"""What guards of routes see: how the requests that a route has sent to a version were answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from modelyard.core.clock import Clock
from modelyard.core.errors import DeadlineExceeded, GivenUp
from modelyard.dispatch.dispatch import Ask, ClientCall
from modelyard.dispatch.router import Router

Answered = Callable[[ClientCall], None]


class Watched:
    """Tells a router how long its requests took and how they ended, if that says something of the
    version: not those that name one, since a caller could take it out with what it sends there; not
    those that the cache answers, which knows one version better than the other; and not those whose
    caller has left, or waits for less time than the model takes for itself.

    Args:
        router: Is told.
        clock: For durations.
    """

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    def watch(self, answered: Answered, ask: Ask, started: float) -> Answered:
        """Return what is to be called when a request is answered, in place of ``answered``."""
        if ask.model_version is not None:
            return answered
        return partial(self._on_answered, answered, ask.timeout_s, started)

    def _on_answered(
        self, answered: Answered, timeout_s: float | None, started: float, call: ClientCall
    ) -> None:
        answered(call)
        outcome = call.outcome
        if call.cache_use in ("hit", "coalesced") or isinstance(outcome, GivenUp):
            return
        own_s = call.entry.announcement.limits.timeout_s
        if isinstance(outcome, DeadlineExceeded) and timeout_s is not None and timeout_s < own_s:
            return
        code = "ok" if outcome is None or isinstance(outcome, bytes) else outcome.code
        self._router.answered(call.entry.target, code, self._clock() - started)
