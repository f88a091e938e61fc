"""What is told of attempts at jobs: a line of the log, and a span.

The span is a child of that of the request which submitted the job, though that was answered long
ago, maybe by another gateway. So a job is one trace, and each attempt is a part of it.
"""

from __future__ import annotations

import logging

from modelyard.core.call import Outcome
from modelyard.core.clock import WallClock
from modelyard.core.errors import RequestError
from modelyard.core.objects import ObjectRef
from modelyard.core.routes import UNKNOWN, Who
from modelyard.core.spans import FAULTS, Context, Ids, Record, Span, Value, parent_of
from modelyard.jobs.job import Ending, Leased

log = logging.getLogger(__name__)


class Attempts:
    """Tells of attempts.

    Args:
        record: Takes spans; None if there are no traces.
        ids: Names spans.
        is_logged: Whether there is a line for each attempt.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self, record: Record | None, ids: Ids | None, *, is_logged: bool, wall_clock: WallClock
    ) -> None:
        self._record = record
        self._ids = ids
        self._is_logged = is_logged
        self._wall_clock = wall_clock

    def begin(self, job: Leased) -> Who:
        """Return what is passed on with the request of an attempt."""
        parent = parent_of(job.trace or "")
        if parent is None:
            return UNKNOWN
        if self._ids is None or not parent.is_sampled:
            return UNKNOWN._replace(trace=parent.traceparent())
        own = Context(parent.context.trace_id, self._ids.span())
        return UNKNOWN._replace(trace=own.traceparent(), since=self._wall_clock())

    def end(self, job: Leased, who: Who, outcome: Outcome | ObjectRef, ending: Ending) -> None:
        """Tell what came of an attempt."""
        code = outcome.code if isinstance(outcome, RequestError) else "ok"
        known = parent_of(who.trace)
        if self._is_logged:
            fields: dict[str, Value] = {"id": job.uid, "job": job.id, "model": job.model}
            fields |= {"attempt": job.attempt, "state": ending.state, "code": code}
            fields |= {} if known is None else {"trace_id": known.context.trace_id}
            log.info("job_attempt", extra=fields)
        if self._record is not None and self._ids is not None and (who.since or code in FAULTS):
            self._record(self._span_of(job, who, code, ending, ids=self._ids))

    def _span_of(self, job: Leased, who: Who, code: str, ending: Ending, *, ids: Ids) -> Span:
        parent, known, now = parent_of(job.trace or ""), parent_of(who.trace), self._wall_clock()
        attributes: dict[str, Value] = {
            "modelyard.request_id": job.uid,
            "modelyard.job.id": job.id,
            "modelyard.job.attempt": job.attempt,
            "modelyard.job.state": ending.state,
            "modelyard.model": job.model,
            "modelyard.code": code,
        }
        if ending.version is not None:
            attributes["modelyard.version"] = ending.version
        if who.since and known is not None:
            context = known.context
        else:  # it failed, and nobody had asked for its trace
            context = Context(ids.trace() if known is None else known.context.trace_id, ids.span())
            attributes["modelyard.recorded_afterwards"] = True
        return Span(
            f"job {job.model}",
            context,
            "" if parent is None else parent.context.span_id,
            who.since or now,
            now,
            "consumer",
            attributes,
            error=code if code in FAULTS else "",
        )
