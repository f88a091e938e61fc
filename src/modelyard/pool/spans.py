"""Makes the spans of traced calls in one pool: see ``core/spans.py``. Only where traces are on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.errors import RequestError
from modelyard.core.messages import Answers
from modelyard.core.names import Target
from modelyard.core.spans import Context, Ids, Record, Span, Value, parent_of
from modelyard.core.trail import Trail


class _Traced:
    """One traced call, from its first batch on."""

    def __init__(self, parent: Context, since: float, arrived: float, own_id: str) -> None:
        self.parent = parent
        self.since = since
        self.arrived = arrived
        self.waits_since = arrived
        self.process = Context(parent.trace_id, own_id)
        self.batch = parent
        self.attempts = 0


class PoolSpans:
    """Records what becomes of traced calls.

    Args:
        target: The pool's.
        record: Takes the spans.
        ids: Draws their ids.
        clock: Calls have readings of it.
        wall_offset: Returns what to add to a reading for the Unix time.
        has_queue: Whether requests come through a broker.
    """

    def __init__(
        self,
        target: Target,
        record: Record,
        *,
        ids: Ids,
        clock: Clock,
        wall_offset: Clock,
        has_queue: bool,
    ) -> None:
        self._target = target
        self._record = record
        self._ids = ids
        self._clock = clock
        self._wall_offset = wall_offset
        self._has_queue = has_queue
        self._traced: dict[Call, _Traced] = {}

    def begin(self, batch: Sequence[Call]) -> list[Trail | None]:
        """Note that a runner gets a batch. Returns the trail of each call: with it the spans of the
        runner, and of the models that this one calls, are part of the batch's.
        """
        return [self._begin(call) for call in batch]

    def _begin(self, call: Call) -> Trail | None:
        trail = call.request.trail
        if trail is None or not trail.since or call.is_settled:
            return trail
        traced = self._traced.get(call)
        if traced is None:
            parent = parent_of(trail.trace)
            if parent is None:
                return trail
            traced = _Traced(parent.context, trail.since, call.arrived, self._ids.span())
            traced.attempts = trail.attempt - 1
            self._traced[call] = traced
            call.watch(partial(self._end, traced))
        traced.attempts += 1
        traced.batch = Context(traced.parent.trace_id, self._ids.span())
        return msgspec.structs.replace(trail, trace=traced.batch.traceparent())

    def traces_of(self, batch: Sequence[Call]) -> list[str]:
        """Return the trace of each call; empty strings for those that have none."""
        found = [self._traced.get(call) for call in batch]
        return ["" if one is None else one.parent.trace_id for one in found]

    def ran(self, batch: Sequence[Call], began: float, answers: Answers | None) -> None:
        """Note that a runner has answered a batch, which began at a reading of the clock.

        ``answers``: None if the answer came in pieces.
        """
        more: dict[str, Value] = {}
        if answers is not None and self._traced:
            more["modelyard.model_seconds"] = answers.model_s
            more["modelyard.batch.instances"] = sum(answers.sizes)
        self._close(batch, began, more)

    def lost(self, batch: Sequence[Call], ahead: Sequence[Call], *, began: float, how: str) -> None:
        """Note that a runner has ended in the midst of a batch, and with another one ahead."""
        self._close(batch, began, {}, error=f"the runner ended: {how}")
        for call in ahead:
            if (traced := self._traced.get(call)) is not None:
                traced.attempts -= 1  # it was not begun

    def _close(
        self, batch: Sequence[Call], began: float, more: dict[str, Value], *, error: str = ""
    ) -> None:
        if not self._traced:
            return
        found = [one for call in batch if (one := self._traced.get(call)) is not None]
        if not found:
            return
        now, offset = self._clock(), self._wall_offset()
        for one in found:
            parent = (one.process if self._has_queue else one.parent).span_id
            since, wait = one.waits_since, Context(one.parent.trace_id, self._ids.span())
            tried: dict[str, Value] = {"modelyard.attempt": one.attempts}
            self._record(Span("wait", wait, parent, since + offset, max(since, began) + offset))
            self._record(
                Span(
                    f"batch {self._target}",
                    one.batch,
                    parent,
                    began + offset,
                    now + offset,
                    attributes={"modelyard.batch.requests": len(batch), **more, **tried},
                    links=tuple(other.batch for other in found if other is not one),
                    error=error,
                )
            )
            one.waits_since = now

    def _end(self, traced: _Traced, call: Call) -> None:
        """Record what a worker did for a call, once it is settled."""
        del self._traced[call]
        if not self._has_queue:
            return
        offset = self._wall_offset()
        arrived, parent_id = traced.arrived + offset, traced.parent.span_id
        queue = Context(traced.parent.trace_id, self._ids.span())
        error = call.outcome.code if isinstance(call.outcome, RequestError) else ""
        system: dict[str, Value] = {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": str(self._target),
        }
        begun = min(traced.since, arrived)
        self._record(
            Span(f"queue {self._target}", queue, parent_id, begun, arrived, "producer", system)
        )
        self._record(
            Span(
                f"process {self._target}",
                traced.process,
                parent_id,
                arrived,
                self._clock() + offset,
                "consumer",
                system | {"modelyard.request_id": call.request.id},
                links=(queue,),
                error=error,
            )
        )
