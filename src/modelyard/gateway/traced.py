"""Predictions of a gateway that makes traces: what ``PredictEndpoint`` does, and a span of each."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

from modelyard.core.clock import WallClock
from modelyard.core.names import Target
from modelyard.core.routes import Who
from modelyard.core.spans import FAULTS, Context, Ids, Parent, Record, Span, Value, parent_of
from modelyard.dispatch.dispatch import Ask, ClientCall
from modelyard.gateway.asked import Asked
from modelyard.gateway.door import Door
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.preparing import Begun
from modelyard.gateway.types import GatewayMetrics


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

    Attributes:
        record: As given.
        ids: Names traces and spans.
    """

    def __init__(
        self, record: Record, *, rate: float, slow_s: float, chance: Random, wall_clock: WallClock
    ) -> None:
        self.record = record
        self.rate, self.slow_s, self.chance = rate, slow_s, chance.random
        self.ids = Ids(chance)
        self._wall_clock = wall_clock
        self._parents: dict[str, str] = {}  # the caller's span, by our own ``traceparent``

    def begin(self, who: Who, parent: Parent | None) -> Who:
        """Return what is passed on with a request that was chosen, or whose ``parent`` says whether
        it is traced: if so, its own span as the parent.
        """
        if parent is None:
            context, parent_id = Context(self.ids.trace(), self.ids.span()), ""
        elif parent.is_sampled:
            trace_id, parent_id = parent.context
            context = Context(trace_id, self.ids.span())
        else:
            return who
        own = context.traceparent()
        self._parents[own] = parent_id
        return who._replace(trace=own, since=self._wall_clock())

    def end(
        self, asked: Asked, who: Who, target: Target | None, code: str, seconds: float
    ) -> Span | None:
        """Record the span of a request that has been answered, if it is to be; returns it."""
        is_late = not who.since
        known = parent_of(who.trace) if who.trace else None
        if not is_late and known is not None:
            context, parent_id = known.context, self._parents.pop(who.trace, "")
        elif code in FAULTS or 0 < self.slow_s < seconds:
            trace_id, parent_id = (self.ids.trace(), "") if known is None else known.context
            context = Context(trace_id, self.ids.span())
        else:
            return None
        now = self._wall_clock()
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            "modelyard.request_id": asked.request_id,
            "modelyard.code": code,
        }
        if target is not None:
            attributes |= {"modelyard.model": target.name, "modelyard.version": target.version}
        if is_late:
            attributes["modelyard.recorded_afterwards"] = True
        span = Span(
            "predict" if target is None else f"predict {target.name}",
            context,
            parent_id,
            now - seconds,
            now,
            "server",
            attributes,
            error=code if code in FAULTS else "",
        )
        self.record(span)
        return span

    def kept(self, asked: Asked, model: str, job_id: str, seconds: float) -> None:
        """Record the span of a request that has become a job, if it is traced."""
        who = asked.plan.who
        known = parent_of(who.trace) if who.since else None
        if known is None:
            return
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            "modelyard.request_id": asked.request_id,
            "modelyard.job.id": job_id,
            "modelyard.model": model,
        }
        context, parent_id, now = (
            known.context,
            self._parents.pop(who.trace, ""),
            self._wall_clock(),
        )
        name, began = f"submit {model}", now - seconds
        self.record(Span(name, context, parent_id, began, now, "server", attributes))

    def left(self, who: Who) -> None:
        """Forget a request that nobody waits for any longer, and that has not become a job."""
        self._parents.pop(who.trace, None)

    def end_call(self, within: Span, call: ClientCall) -> None:
        """Record what is known afterwards of a call whose parts were not traced."""
        if call.instance_s:
            model_s = min(within.ended - within.began, call.instance_s * call.instances)
            own = Context(within.context.trace_id, self.ids.span())
            began = within.ended - model_s
            self.record(Span("predict", own, within.context.span_id, began, within.ended))


class TracedMetrics(GatewayMetrics, Protocol):
    """The metrics that are reported of traced requests too."""

    def illustrate(self, target: Target, seconds: float, *, trace_id: str, at: float) -> None:
        """Name a trace for an answer; ``at``: Unix time."""
        ...


class TracedEndpoint(PredictEndpoint):
    """Answers predictions, and traces them. The arguments are those of ``PredictEndpoint``, and
    ``spans``.
    """

    def __init__(self, *, spans: RequestSpans, metrics: TracedMetrics, **of_endpoint: Any) -> None:
        super().__init__(metrics=metrics, **of_endpoint)
        self._metrics = metrics
        self._chance, self._rate, self._slow_s = spans.chance, spans.rate, spans.slow_s
        self._spans = spans
        self._call: ClientCall | None = None  # the one that is being answered
        self._refused: Who | None = None  # of the request that is being refused

    def _start(self, asked: Asked, ask: Ask) -> Begun:
        plan = asked.plan
        parent = parent_of(plan.who.trace) if plan.who.trace else None
        if parent is None and self._chance() >= self._rate:
            return super()._start(asked, ask)
        if plan.who.since:  # it is a job that is answered at once
            return super()._start(asked, ask)
        who = self._spans.begin(plan.who, parent)
        if who is plan.who:
            return super()._start(asked, ask)
        try:
            return super()._start(asked._replace(plan=plan._replace(who=who)), ask)
        except BaseException:
            self._refused = who  # and it is noted right after this
            raise

    def _on_answered(self, asked: Asked, call: ClientCall) -> None:
        self._call = call
        super()._on_answered(asked, call)
        self._call = None

    def _on_door_answered(self, asked: Asked, door: Door, ask: Ask, call: ClientCall) -> None:
        self._call = call
        super()._on_door_answered(asked, door, ask, call)
        self._call = None

    def _note(self, asked: Asked, target: Target | None, code: str, seconds: float) -> None:
        super()._note(asked, target, code, seconds)
        if code == "ok" and not (asked.plan.who.since or self._slow_s):
            return
        who, self._refused = self._refused or asked.plan.who, None
        # Of an answer in pieces ``seconds`` is the time to the first of them.
        span = self._spans.end(asked, who, target, code, self._clock() - asked.started)
        if span is not None and target is not None:
            trace_id = span.context.trace_id
            self._metrics.illustrate(target, seconds, trace_id=trace_id, at=span.ended)
        if span is not None and not who.since and self._call is not None:
            self._spans.end_call(span, self._call)

    def _more_of(self, asked: Asked) -> dict[str, str]:
        who = asked.plan.who
        known = parent_of(who.trace) if who.since else None
        return {} if known is None else {"trace_id": known.context.trace_id}
