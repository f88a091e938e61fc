"""Demand: how many runners one gateway's share of a target's load needs, for autoscaling.

    demand = busy + (least - busy x instances per request) x seconds per instance / target_wait_s
    busy   = instances asked for per second x seconds per instance

``busy`` runners are what the load takes, counted over the time of sixty requests, but 15 s to
120 s. ``least`` is the smallest number of instances in flight in the last 10 s: what stands there,
not what a burst left. Less those that run when nobody waits it is the backlog, and that should be
gone in ``target_wait_s``. Each gateway tells its own demand, and an autoscaler adds them up. How it
compares with other signals is in ``docs/scaling.md``.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

COUNTED_REQUESTS = 60.0
SHORTEST_S, LONGEST_S = 15.0, 120.0
STANDING_S = 10.0
WAIT_SHARE = 0.25
LEAST = 0.001
"""Of a demand while anything is in flight: an autoscaler takes none for a reason to go to zero."""


class Demand(msgspec.Struct, frozen=True):
    """One gateway's share of the demand for a target.

    Attributes:
        runners: How many are wanted for it; 0 if nothing is asked.
        instances: How many wait or run now.
        instance_s: What one takes in a runner, in seconds; 0 if that is not known yet.
        target_wait_s: The time in which a backlog should be gone, in seconds.
    """

    runners: float
    instances: int
    instance_s: float
    target_wait_s: float


class Sample(NamedTuple):
    """A gateway's counters for one target.

    ``asked``: instances asked for so far, refused ones too; ``requests``: the requests that they
    came in; ``in_flight``: instances that wait or run.
    """

    at_s: float
    asked: float
    requests: float
    in_flight: int


class Meter:
    """What one gateway keeps for one target: its samples of the last two minutes."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Take a sample; one each second."""
        self._samples.append(sample)
        while self._samples[0].at_s < sample.at_s - LONGEST_S:
            self._samples.popleft()

    def runners(self, instance_s: float, *, target_wait_s: float) -> float:
        """Return how many runners are wanted. While no worker has reported its seconds per instance
        (``instance_s`` is 0), that is one if anything is in flight.
        """
        if not self._samples:
            return 0.0
        last = self._samples[-1]
        if not instance_s:
            return float(last.in_flight > 0)
        whole = self._since(LONGEST_S)
        requests = last.requests - whole.requests
        per_request = (last.asked - whole.asked) / requests if requests else 1.0
        window_s = COUNTED_REQUESTS * instance_s * per_request
        first = self._since(min(max(window_s, SHORTEST_S), LONGEST_S))
        busy = (last.asked - first.asked) / max(last.at_s - first.at_s, 1.0) * instance_s
        recent = (s.in_flight for s in self._samples if s.at_s >= last.at_s - STANDING_S)
        backlog = max(min(recent) - busy * per_request, 0.0)
        wanted = busy + backlog * instance_s / target_wait_s
        return max(wanted, LEAST) if last.in_flight else wanted

    def _since(self, seconds: float) -> Sample:
        last = self._samples[-1]
        return next(s for s in self._samples if s.at_s >= last.at_s - seconds)
