"""When requests come: Poisson arrivals under a rate that changes, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


class Shape(NamedTuple):
    """A load over time: straight lines between points.

    Args:
        name: What the pages call it.
        points: (second, share of the greatest rate), in the order of time.
        warm_up_s: What comes before is not reported.
    """

    name: str
    points: Sequence[tuple[float, float]]
    warm_up_s: float = 0.0

    @property
    def length_s(self) -> float:
        """How long it lasts."""
        return self.points[-1][0]

    def share(self, times: Times) -> Times:
        """Give the share of the greatest rate at each of ``times``."""
        at, shares = zip(*self.points, strict=True)
        shown: Times = np.interp(times, at, shares)
        return shown


def constant(rate: float, *, length_s: float, seed: int) -> Times:
    """Give the moments of a Poisson process of ``rate`` per second."""
    return arrive(lambda times: np.full_like(times, rate), rate, length_s=length_s, seed=seed)


def shaped(shape: Shape, *, greatest: float, seed: int) -> Times:
    """Give the moments of a Poisson process whose rate follows ``shape`` up to ``greatest``."""
    return arrive(
        lambda times: greatest * shape.share(times), greatest, length_s=shape.length_s, seed=seed
    )


def arrive(rate: Callable[[Times], Times], greatest: float, *, length_s: float, seed: int) -> Times:
    """Thin a Poisson process of the ``greatest`` rate down to ``rate`` (Lewis and Shedler 1979)."""
    generator = np.random.default_rng(seed)
    expected = greatest * length_s
    count = int(expected + 6 * expected**0.5 + 10)
    times = np.cumsum(generator.exponential(1 / greatest, count))
    times = times[times < length_s]
    return times[generator.random(len(times)) * greatest < rate(times)]
