"""Predictions of a gateway that makes traces: what ``PredictEndpoint`` does, and a span of each."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from modelyard.core.clock import WallClock
from modelyard.core.names import Target
from modelyard.core.routes import Who
from modelyard.core.spans import Context, Ids, Parent, Record, Span, Value, parent_of
from modelyard.dispatch.dispatch import Ask, ClientCall
from modelyard.gateway.asked import Asked
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.preparing import Begun

FAULTS = frozenset(
    ("model_failed", "model_crashed", "deadline_exceeded", "unavailable", "stream_broken", "error")
)
"""Codes of answers that are recorded though nobody asked for it."""


class _Open(NamedTuple):
    """A request under way. ``context`` is None as long as it is not to be recorded."""

    context: Context | None
    parent: Parent | None


class RequestSpans:
    """Decides which requests are traced, and records the span of each.

    A caller that sends a ``traceparent`` decides for itself. Of all others a share is traced. What
    fails by our fault, or takes long, is recorded in any case, as far as it is known afterwards.

    Args:
        record: Takes the spans.
        rate: The share of requests without ``traceparent`` that are traced.
        slow_s: What takes longer is recorded in any case; 0 for none.
        chance: For the share, and for ids.
        wall_clock: For times.
    """

    def __init__(
        self, record: Record, *, rate: float, slow_s: float, chance: Random, wall_clock: WallClock
    ) -> None:
        self._record = record
        self._rate = rate
        self._slow_s = slow_s
        self._chance = chance.random
        self._ids = Ids(chance)
        self._wall_clock = wall_clock
        self._open: dict[str, _Open] = {}  # by request id

    def begin(self, request_id: str, who: Who) -> Who:
        """Return what is passed on with a request: if it is traced, its own span as the parent."""
        parent = parent_of(who.trace) if who.trace else None
        if parent is None:
            if self._rate <= 0 or self._chance() >= self._rate:
                return who
            trace_id = self._ids.trace()
        else:
            trace_id = parent.context.trace_id
            if not parent.is_sampled:
                self._open[request_id] = _Open(None, parent)
                return who
        context = Context(trace_id, self._ids.span())
        self._open[request_id] = _Open(context, parent)
        return who._replace(trace=context.traceparent(), since=self._wall_clock())

    def trace_id(self, request_id: str) -> str:
        """Return the trace of a request under way; empty if it has none."""
        found = self._open.get(request_id)
        return found.context.trace_id if found is not None and found.context is not None else ""

    def end(
        self,
        request_id: str,
        target: Target | None,
        code: str,
        seconds: float,
        call: ClientCall | None,
    ) -> None:
        """Record the span of a request that has been answered, if it is to be."""
        is_bad = code in FAULTS or 0 < self._slow_s < seconds
        found = self._open.pop(request_id, None)
        if (found is None or found.context is None) and not is_bad:
            return
        parent = found.parent if found is not None else None
        context = found.context if found is not None else None
        is_late = context is None
        if context is None:
            trace_id = parent.context.trace_id if parent is not None else self._ids.trace()
            context = Context(trace_id, self._ids.span())
        now = self._wall_clock()
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            "modelyard.request_id": request_id,
            "modelyard.code": code,
        }
        if target is not None:
            attributes |= {"modelyard.model": target.name, "modelyard.version": target.version}
        if call is not None:
            attributes["modelyard.cache"] = call.cache_use
            attributes["modelyard.priority"] = call.priority
        if is_late:
            attributes["modelyard.recorded_afterwards"] = True
        self._record(
            Span(
                f"predict {target.name}" if target is not None else "predict",
                context,
                parent.context.span_id if parent is not None else "",
                now - seconds,
                now,
                "server",
                attributes,
                error="" if code == "ok" or code not in FAULTS else code,
            )
        )
        if is_late and call is not None and call.instance_s:
            model_s = min(seconds, call.instance_s * call.instances)
            own = Context(context.trace_id, self._ids.span())
            told: dict[str, Value] = {"modelyard.recorded_afterwards": True}
            self._record(Span("predict", own, context.span_id, now - model_s, now, attributes=told))


class TracedEndpoint(PredictEndpoint):
    """Answers predictions, and traces them. The arguments are those of ``PredictEndpoint``, and
    ``spans``.
    """

    def __init__(self, *, spans: RequestSpans, **of_endpoint: Any) -> None:
        super().__init__(**of_endpoint)
        self._spans = spans
        self._call: ClientCall | None = None  # the one that is being answered

    def _start(self, asked: Asked, ask: Ask) -> Begun:
        plan = asked.plan
        if not plan.who.since:
            who = self._spans.begin(asked.request_id, plan.who)
            if who is not plan.who:
                asked = asked._replace(plan=plan._replace(who=who))
        return super()._start(asked, ask)

    def _on_answered(self, asked: Asked, call: ClientCall) -> None:
        self._answer(call, super()._on_answered, asked, call)

    def _on_door_answered(self, asked: Asked, *rest: Any) -> None:
        self._answer(rest[-1], super()._on_door_answered, asked, *rest)

    def _answer(self, call: ClientCall, answer: Callable[..., None], *arguments: Any) -> None:
        self._call = call
        try:
            answer(*arguments)
        finally:
            self._call = None

    def _note(self, target: Target | None, code: str, seconds: float, request_id: str) -> None:
        super()._note(target, code, seconds, request_id)
        self._spans.end(request_id, target, code, seconds, self._call)

    def _more_of(self, request_id: str) -> dict[str, str]:
        trace_id = self._spans.trace_id(request_id)
        return {"trace_id": trace_id} if trace_id else {}
