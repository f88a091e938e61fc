"""The metrics of one pool."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Histogram

from modelyard.core.messages import Answers, Measured


class PoolMetrics:
    """The metrics of one pool, with their labels bound."""

    def __init__(
        self,
        *,
        queue_wait: Callable[[float], None],
        batch_size: Histogram,
        model_time: Histogram,
        expired: Counter,
        late: Counter,
        lost: dict[str, Counter],
        measured: Callable[[int, Measured], None],
        runner_ended: Callable[[int], None],
    ) -> None:
        self._queue_wait = queue_wait
        self._batch_size = batch_size
        self._model_time = model_time
        self._expired = expired
        self._late = late
        self._lost = lost
        self.measured = measured
        self.runner_ended = runner_ended

    def batch_started(self, waits_s: list[float]) -> None:
        """Observe how long each request of a batch waited."""
        for wait_s in waits_s:
            self._queue_wait(wait_s)

    def batch_answered(self, answers: Answers) -> None:
        """Observe a batch."""
        for size in answers.sizes:
            self._batch_size.observe(size)
        if answers.sizes:
            self._model_time.observe(answers.model_s)

    def runner_lost(self, cause: str) -> None:
        """Count a runner that ended unexpectedly."""
        self._lost[cause].inc()

    def expired(self, count: int) -> None:
        """Count requests that were never run."""
        self._expired.inc(count)

    def came_late(self) -> None:
        """Count an answer to a request that was settled already."""
        self._late.inc()
