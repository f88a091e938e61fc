"""The vocabulary of the report: a figure, its spread, its limit, and whether it is kept."""

from __future__ import annotations

import operator
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Plan(NamedTuple):
    """How long everything takes."""

    rounds: int = 5
    round_s: int = 2
    warm_up_s: int = 1
    kill_s: int = 30
    starts: int = 3


QUICK = Plan(rounds=3, round_s=1, kill_s=10)


class Limit(NamedTuple):
    """What a figure may be: ``Limit("≥", 0.45)``."""

    sign: str
    value: float

    def is_kept_by(self, figure: float) -> bool:
        """Tell whether ``figure`` is within the limit."""
        compare = {"≥": operator.ge, "≤": operator.le, "<": operator.lt, "=": operator.eq}
        return bool(compare[self.sign](figure, self.value))


class Row(NamedTuple):
    """One line of the report; ``is_kept`` is None where there is no limit."""

    what: str
    figure: str
    spread: str = ""
    limit: str = ""
    is_kept: bool | None = None


def row(what: str, values: Sequence[float], form: str, limit: Limit | None = None) -> Row:
    """Give a line with the median of ``values``, and the least and greatest if there are several.

    Args:
        what: What was measured.
        values: One figure per round.
        form: How a figure is written, for ``str.format``: ``"{:.1f} ms"``.
        limit: What the median is held against.
    """
    middle = statistics.median(values)
    spread = _spread(values, form)
    if limit is None:
        return Row(what, form.format(middle), spread)
    text = f"{limit.sign} {form.format(limit.value)}"
    return Row(what, form.format(middle), spread, text, limit.is_kept_by(middle))


def details(what: str, figures: Mapping[str, Sequence[float]]) -> Row:
    """Give a line of several figures without limits; the spread is that of the last one.

    Args:
        what: What was measured.
        figures: One figure per round, by the form in which it is written.
    """
    texts = [form.format(statistics.median(values)) for form, values in figures.items()]
    form, values = list(figures.items())[-1]
    return Row(what, ", ".join(texts), _spread(values, form))


def _spread(values: Sequence[float], form: str) -> str:
    if len(values) == 1:
        return ""
    number = form[form.index("{") :]
    return f"{form.format(min(values))} to {number.format(max(values))}"


def tell(text: str) -> None:
    """Say on standard error what is going on: the report has standard output for itself."""
    print(f"… {text}", file=sys.stderr, flush=True)
