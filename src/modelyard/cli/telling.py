"""What commands print: tables, and moments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime


def lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; the first row is its heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first row is its heads."""
    print("\n".join(lay_out(rows)))


def tell_moment(moment: float) -> str:
    """Return a Unix time for people."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
