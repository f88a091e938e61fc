"""Demand: how many runners a gateway's own share of a target's work asks for, for autoscaling.

Work is in seconds: instances that wait or run, times what one takes. Divided by the time in which
it should be done, that is a number of runners. Each gateway tells its own, and an autoscaler adds
them up.
"""

from __future__ import annotations

import msgspec

TARGET_WAIT_S = 1.0


class Demand(msgspec.Struct, frozen=True):
    """One gateway's share of the demand for a target.

    Attributes:
        runners: How many are wanted for it; 0 if there is no work.
        instances: How many wait or run.
        instance_s: What one takes in a runner, in seconds; 0 if that is not known yet.
        target_wait_s: The time in which they should be done, in seconds.
    """

    runners: float
    instances: int
    instance_s: float
    target_wait_s: float

    @classmethod
    def of(cls, instances: int, *, instance_s: float) -> Demand:
        """Give the demand of ``instances`` under way."""
        runners = instances * instance_s / TARGET_WAIT_S
        return cls(runners, instances, instance_s, TARGET_WAIT_S)
