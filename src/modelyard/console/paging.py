"""Long lists, a page at a time: so that a browser paints few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

MOST = 50
T = TypeVar("T")


class Paged(NamedTuple, Generic[T]):
    """A page of a list.

    Attributes:
        rows: What is on it.
        number: Which it is, from 1.
        last: The number of the last one.
        first_row: The place of its first row in the list, from 1.
        found: How many rows all pages have.
        total: How many there are without a filter.
    """

    rows: Sequence[T]
    number: int
    last: int
    first_row: int
    found: int
    total: int


def paged(rows: Sequence[T], number: int, *, total: int) -> Paged[T]:
    """Return a page; the nearest one if there is none of that number."""
    last = max(1, -(-len(rows) // MOST))
    number = min(max(1, number), last)
    begin = (number - 1) * MOST
    return Paged(rows[begin : begin + MOST], number, last, begin + 1, len(rows), total)
