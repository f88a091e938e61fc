"""Figures as people read them: three digits, a unit, nothing where nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

NOTHING = "\u2013"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def duration(seconds: float | None) -> str:
    """Return ``1.2 ms``, ``340 ms``, ``2.5 s``."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{_digits(seconds * 1000)} ms"
    return f"{_digits(seconds)} s"


def rate(per_second: float | None) -> str:
    """Return requests per second, without their unit."""
    return NOTHING if per_second is None else _digits(per_second)


def share(part: float | None) -> str:
    """Return ``0 %``, ``0.4 %``, ``12 %``."""
    if part is None:
        return NOTHING
    percent = part * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == int(percent) else f"{percent:.1f} %"


def count(number: float | None) -> str:
    """Return a whole number, with thin spaces between thousands."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", "\u2009")


def moment(at: float) -> str:
    """Return a time of UTC, as ``2026-01-31 14:05:09``."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def iso(at: float) -> str:
    """Return a time for machines."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def ago(seconds: float) -> str:
    """Return how long ago something was, in one unit."""
    if seconds < 2:
        return "just now"
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def sparkline(values: Sequence[float], *, height: int) -> str:
    """Return the points of a line through values, as SVG has them; empty if all are 0."""
    most = max(values, default=0.0)
    if most <= 0 or len(values) < 2:
        return ""
    highs = (round(height - value / most * height) for value in values)
    return " ".join(f"{number},{high}" for number, high in enumerate(highs))


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    if value < 0.01:
        return "< 0.01"
    for limit, places in ((1, 2), (10, 1)):
        if value < limit:
            return f"{value:.{places}f}"
    return f"{value:,.0f}".replace(",", "\u2009")
