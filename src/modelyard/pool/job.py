"""A job: one call in a pool, and what the pool notes of it."""

from __future__ import annotations

from typing import Protocol

from modelyard.core.batch import Priority, count_instances
from modelyard.core.call import Call
from modelyard.core.messages import Answers


class PoolMetrics(Protocol):
    """What a pool tells of its work."""

    def batch_started(self, waits_s: list[float]) -> None:
        """A batch of requests, which waited this long each, was handed to a runner."""
        ...

    def batch_answered(self, answers: Answers) -> None:
        """A runner answered."""
        ...

    def runner_lost(self, cause: str) -> None:
        """A runner ended that should not have: ``crashed``, ``killed`` from
        outside, ``hung`` or ``load_failed``."""
        ...

    def expired(self, count: int) -> None:
        """Requests were dropped before they ran, since their deadline had passed."""
        ...

    def came_late(self) -> None:
        """An answer came when nobody waited for it any more."""
        ...


class Job:
    """One call that waits or runs."""

    __slots__ = ("arrived", "blame", "call", "deadline", "input_bytes", "instances", "priority")

    def __init__(self, call: Call, arrived: float) -> None:
        self.call = call
        self.priority: Priority = call.request.priority
        self.deadline = call.request.deadline
        self.arrived = arrived
        self.blame = 0
        self.input_bytes = len(call.request.input)
        self.instances = count_instances(call.request.input, is_json=call.request.form == "json")

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for it."""
        return self.call.outcome is not None
