"""What becomes of calls: those that a runner has answered, those that it took with it, the late.

Path of a request: ``Pool.on_answers`` calls ``settle``, which settles each call of the batch.
"""

from __future__ import annotations

import logging
from typing import Protocol

from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.errors import (
    DeadlineExceeded,
    Failure,
    ModelCrashed,
    StreamBroken,
    from_failure,
)
from modelyard.core.messages import Answers
from modelyard.core.names import Target
from modelyard.core.pace import Pace
from modelyard.pool.blame import Patience, judge
from modelyard.pool.endings import Lost
from modelyard.pool.interfaces import PoolMetrics
from modelyard.pool.slot import Slot

log = logging.getLogger(__name__)


class WaitAgain(Protocol):
    """Lets a call wait for a runner again."""

    def __call__(self, call: Call, *, is_suspect: bool = False) -> None:
        """``is_suspect``: it must run alone."""
        ...


class Outcomes:
    """Settles the calls of one pool.

    Args:
        target: The pool's.
        metrics: Receives counts and times.
        patience: Is told of a runner that hung.
        clock: Deadlines are readings of it.

    Attributes:
        pace: How long instances take.
        wait_again: Set by the pool.
    """

    wait_again: WaitAgain

    def __init__(
        self, target: Target, *, metrics: PoolMetrics, patience: Patience, clock: Clock
    ) -> None:
        self.pace = Pace()
        self._target = target
        self._metrics = metrics
        self._patience = patience
        self._clock = clock

    def settle(self, slot: Slot, batch: list[Call], answers: Answers) -> None:
        """Settle the calls of a finished batch."""
        ran = sum(answers.sizes)
        instance_s = answers.model_s / ran if ran else 0.0
        if len(batch) == 1:  # so many that nobody has counted them, maybe
            batch[0].ran(ran, instance_s=instance_s)
        for call, outcome in zip(batch, answers.outcomes, strict=True):
            if isinstance(outcome, Failure) and outcome.code == DeadlineExceeded.code:  # not run
                self.expire([call])
            elif call.is_settled:
                self._metrics.came_late()
            elif isinstance(outcome, Failure):
                if outcome.code == "model_failed":
                    fields = {"model": str(self._target), "id": call.request.id}
                    log.warning("model_failed", extra=fields | {"why": outcome.detail})
                call.settle(from_failure(outcome))
            else:
                call.instance_s = instance_s
                call.settle(outcome)
        self._metrics.batch_answered(answers)
        if calls := len(answers.sizes):
            self.pace.add(sum(answers.sizes) / calls, slot.took_s / calls)

    def lose(self, slot: Slot, lost: Lost) -> None:
        """Decide on the calls of a batch whose runner ended: assign blame, retry, log."""
        self._metrics.runner_lost(lost.cause)
        log.warning("runner_lost", extra={"model": str(self._target), **lost.log_fields()})
        now = self._clock()
        if lost.cause == "hung":
            self._patience.ended_hung(now - slot.started)
        for call in lost.batch:
            call.blame, verdict = judge(call.blame, lost.cause, deadline=call.deadline, now=now)
            if verdict == "late":
                call.settle(DeadlineExceeded("the deadline passed while the model ran"))
            elif call.stream is not None and call.stream.received:
                call.settle(StreamBroken(f"the runner ended amid the answer ({lost.how})"))
            elif verdict == "guilty":
                call.settle(
                    ModelCrashed(f"the runner ended each time it ran this request ({lost.how})")
                )
            elif not call.is_settled:
                self.wait_again(call, is_suspect=True)

    def expire(self, calls: list[Call]) -> None:
        """Settle the late calls that are not settled yet."""
        waiting = [call for call in calls if not call.is_settled]
        for call in waiting:
            call.settle(
                DeadlineExceeded("the deadline passed while the request waited for a runner")
            )
        if waiting:
            self._metrics.expired(len(waiting))
