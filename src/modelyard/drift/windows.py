"""Gathers what comes into windows, and compares each with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.drift.comparing import Compared, compare
from modelyard.drift.profile import columns_of
from modelyard.drift.reference import Profile


class Windows:
    """The windows of one target.

    Args:
        profile: The reference.
        rows: A window ends with so many rows,
        seconds: or after so many seconds, if there are at least ``least`` rows by then.
        least: With fewer nothing is said.
        false_alarms: See ``compare``.

    Attributes:
        last_rows: How many rows the last window had that has ended.
    """

    def __init__(
        self, profile: Profile, *, rows: int, seconds: float, least: int, false_alarms: float
    ) -> None:
        self._profile = profile
        self._rows, self._seconds, self._least = rows, seconds, least
        self._false_alarms = false_alarms
        self._names = {feature.name for feature in profile.features}
        self._begun: float | None = None
        self._count = self.last_rows = 0
        self._columns: dict[str, list[Any]] = {}

    def add(
        self, instances: Sequence[Any], predictions: Sequence[Any], now: float
    ) -> list[Compared] | None:
        """Add rows; returns how a window compares that ends with them.

        ``now``: a time in seconds.
        """
        if self._begun is None:
            self._begun = now
        for part, rows in (("request", instances), ("answer", predictions)):
            for name, values in columns_of(rows, part).items():
                if name in self._names:
                    self._columns.setdefault(name, []).extend(values)
        self._count += len(instances)
        is_late = now - self._begun >= self._seconds and self._count >= self._least
        if self._count < self._rows and not is_late:
            return None
        compared = compare(
            self._profile, self._columns, rows=self._count, false_alarms=self._false_alarms
        )
        self._begun, self.last_rows = None, self._count
        self._count, self._columns = 0, {}
        return compared
