"""The demand signal: how many runners the requests of a model need, as its gateways see it.

Each gateway tells of its own requests, in runners:

    demand = busy + (least - busy x instances per request) x seconds per instance / target_wait_s
    busy   = instances asked for per second x seconds per instance

``busy`` runners are what the load takes, counted over the time of sixty requests, but 15 s to
120 s; ``least`` is the smallest number of instances in flight in the last 10 s, so what stands
there, not what a burst left; less those that run when nobody waits it is the backlog, and that
should be gone in ``target_wait_s``. KEDA adds the gateways up, and room for chance on top
(``staff``).
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from bench.simulate import parameters as p
from bench.simulate.farm import Farm
from bench.simulate.gateway import Gateway, Process


class Sample(NamedTuple):
    """A gateway's counters: instances asked for so far, refused ones too, and those in flight."""

    at_s: float
    asked: int
    in_flight: int


class Meter:
    """What one gateway keeps for one target."""

    def __init__(self, *, target_wait_s: float) -> None:
        self._target_wait_s = target_wait_s
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Take this second's sample."""
        self._samples.append(sample)
        while self._samples[0].at_s < sample.at_s - p.LONGEST_S.value:
            self._samples.popleft()

    def demand(self, seconds_per_instance: float | None, *, instances_per_request: float) -> float:
        """Give how many runners this gateway's requests need; one for whatever is in flight while
        no worker has told of its pace.
        """
        last = self._samples[-1]
        if seconds_per_instance is None:
            return float(last.in_flight > 0)
        request_s = seconds_per_instance * instances_per_request
        window_s = min(max(p.COUNTED.value * request_s, p.SHORTEST_S.value), p.LONGEST_S.value)
        first = next(s for s in self._samples if s.at_s >= last.at_s - window_s)
        asked = last.asked - first.asked
        busy = asked / max(last.at_s - first.at_s, 1.0) * seconds_per_instance
        recent = (s for s in self._samples if s.at_s >= last.at_s - p.STANDING_S.value)
        least = min(sample.in_flight for sample in recent)
        backlog = max(least - busy * instances_per_request, 0.0)
        return busy + backlog * seconds_per_instance / self._target_wait_s


def target_wait_s(timeout_s: float) -> float:
    """Give the default of ``[scaling] target_wait_s``."""
    return timeout_s * p.WAIT_SHARE.value


def staff(demand: float) -> float:
    """Give the runners for a demand: the formula in the chart's ScaledObject.

    Requests come by chance, and ``demand`` is a mean: a few of its standard deviations are spare
    (the square-root rule of Halfin and Whitt 1981), and one or so for what is not chance.
    """
    spare = min(p.SPARE.value, p.SPARE_SHARE.value * demand)
    return demand + p.SPARE_ROOT.value * math.sqrt(demand) + spare


class DemandSignal:
    """The sum over the gateways, as KEDA's metrics-api scaler gives it to the HPA."""

    def __init__(self, farm: Farm, *, target_wait_s: float) -> None:
        self._farm = farm
        self._seconds: float | None = None
        self._meters = {gateway: Meter(target_wait_s=target_wait_s) for gateway in farm.gateways}
        farm.env.process(self._listen())
        farm.env.process(self._sample())

    def _listen(self) -> Process:
        """Hear what the workers announce: the mean of those that know."""
        while True:
            size = self._farm.rules.max_batch_size
            told = [worker.pace.seconds_per_instance(size) for worker in self._farm.staying]
            known = [seconds for seconds in told if seconds is not None]
            if known:
                self._seconds = sum(known) / len(known)
            yield self._farm.env.timeout(p.PACE_S.value)

    def _sample(self) -> Process:
        while True:
            for gateway, meter in self._meters.items():
                meter.add(self._look_at(gateway))
            yield self._farm.env.timeout(1)

    def _look_at(self, gateway: Gateway) -> Sample:
        rows = self._farm.rules.rows
        return Sample(self._farm.env.now, gateway.asked * rows, gateway.in_flight() * rows)

    def demand(self) -> float:
        """Give the sum."""
        rows = self._farm.rules.rows
        return sum(
            meter.demand(self._seconds, instances_per_request=rows)
            for meter in self._meters.values()
        )

    def wanted(self, replicas: int) -> int:
        """Give ceil(runners / 1 a pod), unless that is within the tolerance of what there is."""
        runners = staff(self.demand())
        if abs(runners / replicas - 1) <= p.TOLERANCE.value:
            return replicas
        return math.ceil(round(runners, 9))
