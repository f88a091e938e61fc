"""Demand against the better of the other two signals: what it must hold, and where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.simulate.scenarios import Outcome

SLOWEST = 1.1
"""Times the p99 of the better one, at most, with no more pods in the mean."""

MISSED = frozenset(
    {
        ("intermediate_iris_model", "step"),
        ("intermediate_iris_model", "spike"),
        ("intermediate_iris_model", "day"),
    }
)
"""What is known not to be held, as (model, load); the page says why."""


class Comparison(NamedTuple):
    """One load on one model. The better one has the lower p99."""

    demand: Outcome
    better: Outcome

    @property
    def slowness(self) -> float:
        """The p99, in times of the better one's."""
        return self.demand.p99_s / self.better.p99_s

    @property
    def more_pods(self) -> float:
        """In the mean, beyond the better one's."""
        return self.demand.pods_mean - self.better.pods_mean

    @property
    def is_held(self) -> bool:
        """Whether demand is about as fast, for no more pods and no more lost requests."""
        lost = (one.refused + one.expired for one in self)
        return self.slowness <= SLOWEST and self.more_pods <= 0 and next(lost) <= next(lost)

    @property
    def is_as_known(self) -> bool:
        """Whether the page tells the truth."""
        return self.is_held is ((self.demand.subject, self.demand.shape) not in MISSED)


def compare(outcomes: Sequence[Outcome]) -> list[Comparison]:
    """Compare what was tried with all three signals."""
    found = []
    for demand in (one for one in outcomes if one.signal == "demand"):
        same = [one for one in outcomes if one[:2] == demand[:2]]
        others = [one for one in same if one.signal in ("CPU", "queue")]
        better = min(others, key=lambda one: (one.p99_s, one.pods_mean))
        found.append(Comparison(demand, better))
    return found
