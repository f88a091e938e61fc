"""The profile of a reference: how each feature, and each prediction, is distributed in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from modelyard.drift.reference import Feature, Profile

MOST_FEATURES = 100  # of a model; each is a few time series
MOST_CATEGORIES = 50
MOST_WHOLE_NUMBERS = 20  # with so many different values they are categories
LARGEST_SAMPLE = 2000
LEAST_ROWS = 100
MOST_BINS = 10
ROWS_PER_BIN = 20


class ProfileError(Exception):
    """No profile can be made of this; the text says why."""


def make_profile(instances: Sequence[Any], predictions: Sequence[Any] = ()) -> Profile:
    """Return the profile of a reference.

    Args:
        instances: Rows: lists of values, dicts of them, or single values.
        predictions: For the same rows, or none.

    Raises:
        ProfileError: There are too few rows, or too many features.
    """
    rows = len(instances)
    if rows < LEAST_ROWS:
        raise ProfileError(f"a reference has at least {LEAST_ROWS} rows, there are {rows}")
    features = []
    for part, values in (("request", instances), ("answer", predictions)):
        columns = columns_of(values, part)
        features += [_feature(name, column, rows) for name, column in sorted(columns.items())]
    features = [feature for feature in features if feature is not None]
    if not features:
        raise ProfileError("there are no numbers and no categories in it")
    if len(features) > MOST_FEATURES:
        raise ProfileError(f"{len(features)} features; at most {MOST_FEATURES} are watched")
    return Profile(rows, [feature for feature in features if feature is not None])


def columns_of(rows: Sequence[Any], part: str) -> dict[str, list[Any]]:
    """Return the values of each feature; those that are missing are not among them."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in _cells(row, part):
            columns.setdefault(name, []).append(value)
    return columns


def _cells(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Give what a row holds, each with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _cells(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value[:MOST_FEATURES]):
            yield from _cells(item, f"{name}.{place}")
    elif value is not None and not (isinstance(value, float) and not math.isfinite(value)):
        yield name, value


def _feature(name: str, values: list[Any], rows: int) -> Feature | None:
    """Return a column's profile; None if nothing can be said of it: text that is never the same."""
    missing = rows - len(values)
    kinds = {type(value) for value in values}
    is_category = not kinds <= {int, float}
    if kinds == {int} and len(set(values)) <= MOST_WHOLE_NUMBERS:
        is_category = True
    if is_category:
        tally = Counter(map(category_of, values))
        once = sum(count == 1 for count in tally.values())
        if once > len(values) / 2:
            return None
        common = tally.most_common(MOST_CATEGORIES)
        counts = [count for _, count in common]
        return Feature(
            name,
            "category",
            rows,
            missing,
            counts=[*counts, len(values) - sum(counts)],
            categories=[category for category, _ in common],
            once=once,
        )
    array = np.sort(np.asarray(values, dtype=np.float64))
    bins = min(MOST_BINS, max(2, len(array) // ROWS_PER_BIN))
    edges = np.unique(np.quantile(array, np.linspace(0, 1, bins + 1)[1:-1]))
    sample = array
    if len(array) > LARGEST_SAMPLE:
        sample = np.quantile(array, np.linspace(0, 1, LARGEST_SAMPLE))
    counts_ = np.bincount(np.searchsorted(edges, array, side="right"), minlength=len(edges) + 1)
    return Feature(
        name,
        "number",
        rows,
        missing,
        sample=[float(value) for value in sample],
        edges=[float(edge) for edge in edges],
        counts=[int(count) for count in counts_],
    )


def category_of(value: Any) -> str:
    """Return what a value is as a category."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
