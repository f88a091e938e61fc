"""A piece: rows of an input that are asked together: one of the model's batches, or as many as take
no longer than a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from modelyard.jobs.bulk.order import Mark, RowFailure

MOST_BYTES = 1 << 20  # of a piece, unless a single row is larger
MOST_ROW_BYTES = 4 << 20
"""A row that is larger is set aside: it would be too large for a message of the broker."""

_UNWRITABLE = (TypeError, ValueError, OverflowError)
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_to_json = msgspec.json.Encoder().encode

HowMany = Callable[[], int]
"""How many rows the next piece should have."""

Pieces = Iterator["Piece"]


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

    def parts(self, bounds: Sequence[tuple[int, int]]) -> list[Piece]:
        """Return some of the rows in the body as pieces of their own, without the bad ones.

        Args:
            bounds: The first row of each, and the one after its last: places in the body.
        """
        instances = _split(self.body)
        return [
            Piece(
                numbers=self.numbers[first:end],
                body=b"[" + b",".join(map(bytes, instances[first:end])) + b"]",
                bad=(),
                mark=self.mark,
                kept=self.kept[first:end],
            )
            for first, end in bounds
        ]


class Rows:
    """Gathers the rows of a piece."""

    def __init__(self, first: int) -> None:
        self.next = first
        self._numbers: list[int] = []
        self._instances: list[Any] = []
        self._bad: list[RowFailure] = []
        self._kept: list[Sequence[Any]] = []

    def add(self, instance: Any, kept: Sequence[Any] = ()) -> None:
        """Add a row: its instance, which is written as JSON later."""
        self._numbers.append(self.next)
        self._instances.append(instance)
        self._kept.append(kept)
        self.next += 1

    def add_all(self, instances: Sequence[Any], kept: Sequence[Sequence[Any]]) -> None:
        """Add rows that follow one another."""
        end = self.next + len(instances)
        self._numbers += range(self.next, end)
        self._instances += instances
        self._kept += kept
        self.next = end

    def set_aside(self, code: str, detail: str, where: str | None = None) -> None:
        """Add a row that is none."""
        self._bad.append(RowFailure(self.next, code, detail, where))
        self.next += 1

    def piece(self, offset: int) -> Piece:
        """Return the piece; ``offset``: where it ends."""
        try:
            body = _to_json(self._instances)
        except _UNWRITABLE:
            body = b""
        if not body or len(body) > MOST_ROW_BYTES:
            body = self._fitting()
        return Piece(
            numbers=self._numbers,
            body=body,
            bad=self._bad,
            mark=Mark(row=self.next, offset=offset),
            kept=self._kept if any(self._kept[:1]) else (),
        )

    def _fitting(self) -> bytes:
        """Set aside what cannot be written or is too large, and return the others."""
        good: list[int] = []
        written: list[bytes] = []
        for at, (number, instance) in enumerate(zip(self._numbers, self._instances, strict=True)):
            try:
                one = _to_json(instance)
            except _UNWRITABLE as error:
                self._bad.append(RowFailure(number, "invalid_input", str(error)))
                continue
            if len(one) > MOST_ROW_BYTES:
                detail = f"a row may have {MOST_ROW_BYTES} bytes"
                self._bad.append(RowFailure(number, "too_large", detail))
                continue
            good.append(at)
            written.append(one)
        self._numbers = [self._numbers[at] for at in good]
        self._kept = [self._kept[at] for at in good]
        return b"[" + b",".join(written) + b"]"
