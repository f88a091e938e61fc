"""Traces of a gateway's requests: which of them are traced, and the span of each."""

from __future__ import annotations

from random import Random
from typing import Protocol

from modelyard.core.clock import WallClock
from modelyard.core.names import Target
from modelyard.core.routes import Who
from modelyard.core.spans import FAULTS, Context, Ids, Record, Span, Value, parent_of
from modelyard.dispatch.dispatch import ClientCall
from modelyard.gateway.asked import Answered, Asked
from modelyard.gateway.heads import Plan
from modelyard.gateway.plans import trace_in, traced


class TracedMetrics(Protocol):
    """The metrics that are reported of traced requests too."""

    def illustrate(self, target: Target, seconds: float, *, trace_id: str, at: float) -> None:
        """Name a trace for an answer; ``at``: Unix time."""
        ...


class RequestSpans:
    """Decides which requests are traced, and records the span of each.

    A caller that sends a ``traceparent`` decides for itself. Of all others a share is traced. What
    fails by our fault, or takes long, is recorded in any case, as far as it is known afterwards.

    Args:
        record: Takes the spans.
        metrics: Of the gateway.
        rate: The share of requests without ``traceparent`` that are traced.
        slow_s: What takes longer is recorded in any case; 0 for none.
        chance: For the share, and for ids.
        wall_clock: For times.

    Attributes:
        record, rate, slow_s: As given.
        chance: Draws from 0 to 1.
        ids: Names traces and spans.
    """

    def __init__(
        self,
        record: Record,
        metrics: TracedMetrics,
        *,
        rate: float,
        slow_s: float,
        chance: Random,
        wall_clock: WallClock,
    ) -> None:
        self.record, self._metrics = record, metrics
        self.rate, self.slow_s, self.chance = rate, slow_s, chance.random
        self.ids = Ids(chance)
        self._wall_clock = wall_clock
        self._parents: dict[str, str] = {}  # the caller's span, by our own ``traceparent``

    def begin(self, plan: Plan, line: bytes | None, *, is_drawn: bool) -> Plan:
        """Return the plan of a request that may be traced; if it is, its own span is the parent of
        what follows. ``line``: that of its ``traceparent``, which decides, and else ``is_drawn``.
        """
        plan = traced(plan, line)
        parent = parent_of(plan.who.trace) if plan.who.trace else None
        if not (is_drawn if parent is None else parent.is_sampled):
            return plan
        trace_id, parent_id = (self.ids.trace(), "") if parent is None else parent.context
        own = Context(trace_id, self.ids.span()).traceparent()
        self._parents[own] = parent_id
        return plan._replace(who=plan.who._replace(trace=own, since=self._wall_clock()))

    def end(
        self,
        asked: Asked,
        target: Target | None,
        code: str,
        seconds: tuple[float, float],
        call: Answered,
    ) -> dict[str, str]:
        """Record the span of a request that has been answered, if it is to be.

        Returns what its line in the log says more. ``seconds``: until its answer, or the first
        piece of it, and until its end. ``call``: what gave the answer, if it came so far.
        """
        answered_s, ended_s = seconds
        span = self._make(asked, target, code, ended_s)
        if span is None:
            return {}
        self.record(span)
        trace_id = span.context.trace_id
        if target is not None:
            self._metrics.illustrate(target, answered_s, trace_id=trace_id, at=span.ended)
        if asked.plan.who.since:
            return {"trace_id": trace_id}
        if call is not None:
            self._end_call(span, call)
        return {}

    def _make(self, asked: Asked, target: Target | None, code: str, seconds: float) -> Span | None:
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
        return Span(
            "predict" if target is None else f"predict {target.name}",
            context,
            parent_id,
            now - seconds,
            now,
            "server",
            attributes,
            error=code if code in FAULTS else "",
        )

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

    def _end_call(self, within: Span, call: ClientCall) -> None:
        """Record what is known afterwards of a call whose parts were not traced."""
        if call.instance_s:
            model_s = min(within.ended - within.began, call.instance_s * call.instances)
            own = Context(within.context.trace_id, self.ids.span())
            began = within.ended - model_s
            self.record(Span("predict", own, within.context.span_id, began, within.ended))
