"""Predictions of a gateway that makes traces: what ``PredictEndpoint`` does, and a span of each."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

from modelyard.core.clock import WallClock
from modelyard.core.names import Target
from modelyard.core.routes import Who
from modelyard.core.spans import FAULTS, Context, Ids, Parent, Record, Span, Value, parent_of
from modelyard.dispatch.dispatch import ClientCall
from modelyard.gateway.asked import Answered, Asked
from modelyard.gateway.heads import Plan
from modelyard.gateway.known import Given
from modelyard.gateway.plans import trace_in, traced
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.preparing import Predicting
from modelyard.gateway.types import GatewayMetrics, Respond

_NOT_SAMPLED = b"-00"  # the end of a ``traceparent`` whose caller does not record its own span


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
        """Return what is passed on with a request that is traced: its own span as the parent."""
        trace_id, parent_id = (self.ids.trace(), "") if parent is None else parent.context
        own = Context(trace_id, self.ids.span()).traceparent()
        self._parents[own] = parent_id
        return who._replace(trace=own, since=self._wall_clock())

    def end(self, asked: Asked, target: Target | None, code: str, seconds: float) -> Span | None:
        """Record the span of a request that has been answered, if it is to be; returns it."""
        who = asked.plan.who
        is_late = not who.since
        trace = who.trace or (trace_in(asked.trace) if asked.trace else "")
        known = parent_of(trace) if trace else None
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
        self._begin, self._note_plainly = super().begin, super()._note  # ``super`` takes longer

    def begin(
        self,
        plan: Plan,
        body: bytes | bytearray,
        respond: Respond,
        *,
        given: Given | None,
        host: str = "",
    ) -> Predicting | None:
        """See ``PredictEndpoint``. A caller that sends a ``traceparent`` decides for itself."""
        trace = given[1] if given else None
        is_drawn = self._chance() < self._rate
        is_plain = trace is None or trace.endswith(_NOT_SAMPLED)
        if is_drawn or not is_plain or plan.order is not None:
            plan = traced(plan, trace)
            parent = parent_of(plan.who.trace) if plan.who.trace else None
            if is_drawn if parent is None else parent.is_sampled:
                plan = plan._replace(who=self._spans.begin(plan.who, parent))
        return self._begin(plan, body, respond, given=given, host=host)

    def _note(
        self,
        asked: Asked,
        target: Target | None,
        code: str,
        seconds: float,
        call: Answered = None,
    ) -> None:
        self._note_plainly(asked, target, code, seconds)
        if code == "ok" and not (asked.plan.who.since or self._slow_s):
            return
        # Of an answer in pieces ``seconds`` is the time to the first of them.
        span = self._spans.end(asked, target, code, self._clock() - asked.started)
        if span is None:
            return
        if target is not None:
            trace_id = span.context.trace_id
            self._metrics.illustrate(target, seconds, trace_id=trace_id, at=span.ended)
        if call is not None and not asked.plan.who.since:
            self._spans.end_call(span, call)

    def _more_of(self, asked: Asked) -> dict[str, str]:
        who = asked.plan.who
        known = parent_of(who.trace) if who.since else None
        return {} if known is None else {"trace_id": known.context.trace_id}
