"""What a model measures, as its runner tells it to the pool, and the limits of that.

Both ends check: the runner so that a model cannot fill it, the pool because it adds up what all
runners of a target say. What is over a limit is dropped and counted, never an error of the model's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]
Drop = Literal["invalid", "other_kind", "too_many"]
"""Why a measurement is dropped. ``invalid``: Prometheus does not allow the name, a label, a bucket
or the value. ``other_kind``: the name is taken by a metric of another kind or with other buckets.
``too_many``: there would be more than ``MOST_SERIES``."""

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""

MOST_SERIES = 200
MOST_LABELS = 4
MOST_BUCKETS = 32
LONGEST_NAME = 64
LONGEST_VALUE = 100
LONGEST_ABOUT = 200

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_ENDINGS = ("_total", "_count", "_sum", "_bucket", "_created", "_info")  # Prometheus adds them
_OURS = frozenset(("model", "version", "le", "quantile", "job", "instance"))


class Series(msgspec.Struct, array_like=True):
    """One metric with one set of labels.

    ``value``: of a counter what was added, of a gauge its value, of a histogram the sum of what was
    observed. ``counts``: of a histogram by bucket, with one more for what is above the last.
    """

    labels: Labels
    value: float = 0.0
    counts: list[int] = []


class Measure(msgspec.Struct, array_like=True):
    """One metric. ``bounds``: the upper limits of a histogram's buckets."""

    kind: Kind
    name: str
    about: str
    bounds: tuple[float, ...]
    series: list[Series]


def is_metric(name: str, bounds: Sequence[float] = ()) -> bool:
    """Return whether a model may have such a metric."""
    is_name = len(name) <= LONGEST_NAME and _NAME.fullmatch(name) is not None
    are_limits = len(bounds) <= MOST_BUCKETS and all(map(isfinite, bounds))
    is_sorted = all(low < high for low, high in pairwise(bounds))
    return is_name and not name.endswith(_ENDINGS) and are_limits and is_sorted


def labels_of(given: Mapping[str, object]) -> Labels | None:
    """Return labels with their values as texts; None if they cannot be labels of a model."""
    if len(given) > MOST_LABELS:
        return None
    labels = tuple(sorted((name, str(value)) for name, value in given.items()))
    return labels if are_labels(labels) else None


def are_labels(labels: Labels) -> bool:
    """Return whether a model's metric may have these labels."""
    return len(labels) <= MOST_LABELS and all(
        len(name) <= LONGEST_NAME
        and _NAME.fullmatch(name)
        and name not in _OURS
        and len(value) <= LONGEST_VALUE
        for name, value in labels
    )
