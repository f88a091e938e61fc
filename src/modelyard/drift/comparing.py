"""Compares a window with a profile: for each feature several tests, with one rate of false alarms
for all of them together.

Each test gives a p-value: how often a window of the reference's own distribution would look as
unlike it. A feature has drifted if one of its p-values is below the rate of false alarms divided by
the number of tests of the whole window (Bonferroni). So at most that share of unshifted windows
raises an alarm, whatever the number of features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import psi_inference
from scipy import stats

from modelyard.drift.profile import category_of
from modelyard.drift.reference import Feature, Profile

_HALF = 0.5  # added to each count: an empty bin would make the index infinite


class Compared(msgspec.Struct, frozen=True):
    """How a feature of a window compares.

    Attributes:
        psi: The population stability index.
        ks: The statistic of Kolmogorov and Smirnov; 0 for categories.
        missing: Share of rows without it.
        outside: Share of values that are below or above all of the reference.
        new: Share of values that are no category of the reference.
        p: The lowest p-value of its tests.
    """

    name: str
    psi: float = 0.0
    ks: float = 0.0
    missing: float = 0.0
    outside: float = 0.0
    new: float = 0.0
    p: float = 1.0
    has_drifted: bool = False


def compare(
    profile: Profile, columns: Mapping[str, Sequence[Any]], *, rows: int, false_alarms: float
) -> list[Compared]:
    """Return how each feature of a window compares.

    Args:
        profile: The reference.
        columns: The window's values, by feature, without those that are missing.
        rows: How many rows the window has.
        false_alarms: The share of unshifted windows that may raise an alarm.
    """
    measured = [_measure(f, columns.get(f.name, ()), rows) for f in profile.features]
    tests = sum(len(p_values) for _, p_values in measured)
    limit = false_alarms / tests
    return [
        msgspec.structs.replace(compared, p=min(p_values), has_drifted=min(p_values) < limit)
        for compared, p_values in measured
    ]


def _measure(feature: Feature, values: Sequence[Any], rows: int) -> tuple[Compared, list[float]]:
    """Return a feature's figures, and the p-value of each test."""
    missing = max(0, rows - len(values))
    p_values = [_p_of_more(missing, rows, feature.missing, feature.rows)]
    found = Compared(feature.name, missing=missing / rows)
    if not values:
        return found, p_values
    measure = _measure_numbers if feature.kind == "number" else _measure_categories
    return measure(feature, found, values, p_values)


def _measure_numbers(
    feature: Feature, found: Compared, values: Sequence[Any], p_values: list[float]
) -> tuple[Compared, list[float]]:
    numbers = [value for value in values if isinstance(value, int | float)]
    strange = len(values) - len(numbers)  # what is no number at all
    p_values.append(_p_of_more(strange, len(values), 0, feature.rows))
    found = msgspec.structs.replace(found, new=strange / len(values))
    if not numbers:
        return found, p_values
    array, sample = np.asarray(numbers, dtype=np.float64), np.asarray(feature.sample)
    ks = stats.ks_2samp(sample, array, method="asymp")
    places = np.searchsorted(np.asarray(feature.edges), array, side="right")
    counts = np.bincount(places, minlength=len(feature.counts))
    psi, psi_p = _psi(feature.counts, counts)
    below, above = int((array < sample[0]).sum()), int((array > sample[-1]).sum())
    p_values += [float(ks.pvalue), psi_p]
    p_values += [_p_of_beyond(beyond, len(array), len(sample)) for beyond in (below, above)]
    outside = (below + above) / len(array)
    changed = msgspec.structs.replace(found, psi=psi, ks=float(ks.statistic), outside=outside)
    return changed, p_values


def _measure_categories(
    feature: Feature, found: Compared, values: Sequence[Any], p_values: list[float]
) -> tuple[Compared, list[float]]:
    tally = Counter(map(category_of, values))
    counts = [tally.pop(category, 0) for category in feature.categories]
    rest = sum(tally.values())
    expected = feature.once + feature.counts[-1]
    new = rest if not feature.counts[-1] else 0  # else some of the rest were in the reference
    p_values.append(_p_of_more(rest, len(values), expected, feature.rows))
    psi, psi_p = _psi(feature.counts, [*counts, rest])
    p_values.append(psi_p)
    return msgspec.structs.replace(found, psi=psi, new=new / len(values)), p_values


def _psi(reference: Sequence[int], window: Any) -> tuple[float, float]:
    """Return the index and its p-value (Yurdakul and Naranjo, 2020)."""
    before, now = np.asarray(reference, dtype=float), np.asarray(window, dtype=float)
    there = (before + now) > 0
    if there.sum() < 2:  # one bin holds everything, then as now
        return 0.0, 1.0
    result = psi_inference.psi_test(before[there] + _HALF, now[there] + _HALF)
    return float(result.statistic), float(result.p_value)


def _p_of_more(count: int, of: int, before: int, of_before: int) -> float:
    """Return how likely so many of these are, if they are as frequent as before (Fisher's test)."""
    if not count:
        return 1.0
    return float(stats.hypergeom.sf(count - 1, of + of_before, count + before, of))


def _p_of_beyond(count: int, window: int, reference: int) -> float:
    """Return how likely it is that at least so many of a window are beyond the reference's largest:
    that the ``count`` largest of all are the window's.
    """
    places = np.arange(count)
    return float(np.prod((window - places) / (window + reference - places)))
