"""The demand signal, as the product computes it in ``core/demand.py``, and what the chart does.

KEDA adds the gateways up, and room for chance on top (``staff``).
"""

from __future__ import annotations

import math

from bench.simulate import parameters as p
from bench.simulate.farm import Farm
from bench.simulate.gateway import Gateway, Process
from modelyard.core.demand import WAIT_SHARE, Meter, Sample


def target_wait_s(timeout_s: float) -> float:
    """Give the default of ``[scaling] target_wait_s``."""
    return timeout_s * WAIT_SHARE


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
        self._target_wait_s = target_wait_s
        self._meters = {gateway: Meter() for gateway in farm.gateways}
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
        asked = gateway.asked * rows
        return Sample(self._farm.env.now, asked, gateway.asked, gateway.in_flight() * rows)

    def demand(self) -> float:
        """Give the sum."""
        return sum(
            meter.runners(self._seconds or 0.0, target_wait_s=self._target_wait_s)
            for meter in self._meters.values()
        )

    def wanted(self, replicas: int) -> int:
        """Give ceil(runners / 1 a pod), unless that is within the tolerance of what there is."""
        runners = staff(self.demand())
        if abs(runners / replicas - 1) <= p.TOLERANCE.value:
            return replicas
        return math.ceil(round(runners, 9))
