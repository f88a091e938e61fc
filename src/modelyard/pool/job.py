"""A job: one request in a pool, and the future that its asker awaits."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import RequestError
from modelyard.core.messages import Answers, Request

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
    """One request that waits or runs, and the future that its asker awaits."""

    __slots__ = ("arrived", "blame", "future", "instances", "request")

    def __init__(self, request: Request, future: asyncio.Future[bytes], arrived: float) -> None:
        self.request = request
        self.future = future
        self.arrived = arrived
        self.blame = 0
        self.instances = _count(request.input)

    @property
    def priority(self) -> Priority:
        return self.request.priority

    @property
    def deadline(self) -> float:
        return self.request.deadline

    @property
    def is_gone(self) -> bool:
        return self.future.done()

    def fail(self, error: RequestError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
