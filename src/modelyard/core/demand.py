"""Demand: how many runners one gateway's share of a target's load needs, for autoscaling.

Load is measured in seconds: the instances that wait or run, times the seconds per instance. Divided
by the time in which it should be done, that is a number of runners. Each gateway reports its own
share, and an autoscaler adds them up.
"""

from __future__ import annotations

import msgspec

TARGET_WAIT_S = 1.0


class Demand(msgspec.Struct, frozen=True):
    """One gateway's share of the demand for a target.

    Attributes:
        runners: Runners needed; 0 if there is no load.
        instances: Instances that wait or run.
        instance_s: Mean seconds per instance in a runner; 0 if not known yet.
        target_wait_s: Seconds in which all of them should be done.
    """

    runners: float
    instances: int
    instance_s: float
    target_wait_s: float

    @classmethod
    def of(cls, instances: int, *, instance_s: float) -> Demand:
        """Return the demand of ``instances`` that are in flight."""
        runners = instances * instance_s / TARGET_WAIT_S
        return cls(runners, instances, instance_s, TARGET_WAIT_S)
