"""What a worker measures of its model: the seconds that an instance takes in a full batch.

A batch of n instances takes ``a + b n`` seconds, so an instance takes ``a / n + b``, and the mean
time per instance depends on the batch size as well as on the model: adding workers shrinks the
batches, which raises the time per instance, which asks for still more workers. Only a full batch
shows what a runner can do. Few batches are full, so ``a`` and ``b`` are fitted to those that run.
"""

from __future__ import annotations

KEPT = 0.99
"""Of the weight of all batches so far when another comes: the last hundred count."""


class Pace:
    """A line through recent batches, by weighted least squares."""

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0

    def add(self, instances: float, seconds: float) -> None:
        """Take one call of ``predict`` into account."""
        self._weight = KEPT * self._weight + 1
        self._n = KEPT * self._n + instances
        self._t = KEPT * self._t + seconds
        self._nn = KEPT * self._nn + instances * instances
        self._nt = KEPT * self._nt + instances * seconds

    def seconds_per_instance(self, size: int) -> float | None:
        """Return the seconds per instance in a batch of ``size``; None before the first batch.

        An instance takes between nothing and the mean beyond what the batch takes anyway. Where
        all batches are alike it takes the mean: nothing shows yet that a larger one is cheaper.
        """
        if not self._weight:
            return None
        n, t = self._n / self._weight, self._t / self._weight
        variance = self._nn / self._weight - n * n
        each_s = t / n
        if variance > 1e-9 * n * n:
            slope_s = (self._nt / self._weight - n * t) / variance
            each_s = min(max(slope_s, 0.0), each_s)
        return each_s + (t - each_s * n) / size
