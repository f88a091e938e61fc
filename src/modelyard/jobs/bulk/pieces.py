"""A piece: rows of an input that are asked together, as many as fill one of the model's batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from modelyard.jobs.bulk.order import Mark, RowFailure

MOST_BYTES = 1 << 20  # of a piece, unless a single row is larger
MOST_ROW_BYTES = 4 << 20
"""A row that is larger is set aside: it would be too large for a message of the broker."""

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Piece(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Rows that are asked together.

    Attributes:
        numbers: Of the rows that are in the body, from 0.
        body: Their instances: a JSON list.
        bad: Rows that are none.
        mark: What follows the last of all of these.
        kept: Of each row in the body, the cells that the output repeats.
    """

    numbers: Sequence[int]
    body: bytes
    bad: Sequence[RowFailure]
    mark: Mark
    kept: Sequence[Sequence[Any]] = ()

    def part(self, first: int, end: int) -> Piece:
        """Return some of the rows in the body as a piece of their own, without the bad ones."""
        instances = _split(self.body)[first:end]
        return Piece(
            numbers=self.numbers[first:end],
            body=b"[" + b",".join(map(bytes, instances)) + b"]",
            bad=(),
            mark=self.mark,
            kept=self.kept[first:end],
        )


class Rows:
    """Gathers the rows of a piece, one by one."""

    def __init__(self, first: int) -> None:
        self.next = first
        self._numbers: list[int] = []
        self._instances: list[bytes] = []
        self._bad: list[RowFailure] = []
        self._kept: list[Sequence[Any]] = []

    def add(self, instance: bytes, kept: Sequence[Any] = ()) -> None:
        """Add a row."""
        if len(instance) > MOST_ROW_BYTES:
            self.set_aside("too_large", f"a row may have {MOST_ROW_BYTES} bytes")
            return
        self._numbers.append(self.next)
        self._instances.append(instance)
        if kept:
            self._kept.append(kept)
        self.next += 1

    def set_aside(self, code: str, detail: str, where: str | None = None) -> None:
        """Add a row that is none."""
        self._bad.append(RowFailure(self.next, code, detail, where))
        self.next += 1

    def piece(self, offset: int) -> Piece:
        """Return the piece; ``offset``: where it ends."""
        return Piece(
            numbers=self._numbers,
            body=b"[" + b",".join(self._instances) + b"]",
            bad=self._bad,
            mark=Mark(row=self.next, offset=offset),
            kept=self._kept,
        )


Pieces = Iterator[Piece]
