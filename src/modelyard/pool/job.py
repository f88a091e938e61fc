"""A job: one call in a pool, and what the pool notes of it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.messages import Answers

COUNTED_BYTES = 64 * 1024
MANY = 1 << 30

_instances = msgspec.json.Decoder(list[msgspec.Raw])


def _count(raw: memoryview) -> int:
    """Count the instances of a small input. A large one counts as many: it is a batch of its own,
    and counting would hold the event loop and take 40 times its size in memory.
    """
    if len(raw) > COUNTED_BYTES:
        return MANY
    try:
        return max(1, len(_instances.decode(raw)))
    except msgspec.DecodeError:
        return 1  # no list: the runner will say what it should have been


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

    __slots__ = ("arrived", "blame", "call", "deadline", "instances", "priority")

    def __init__(self, call: Call, arrived: float) -> None:
        self.call = call
        self.priority: Priority = call.request.priority
        self.deadline = call.request.deadline
        self.arrived = arrived
        self.blame = 0
        self.instances = _count(call.request.input)

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for it."""
        return self.call.outcome is not None
