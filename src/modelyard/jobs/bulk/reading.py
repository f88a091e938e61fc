"""Reads rows from CSV and JSON Lines, piece by piece. Each line is looked at once, and where all of
a piece is as the model takes it, no row of it is made an object: its text is passed on.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec

from modelyard.core.errors import InvalidInput
from modelyard.jobs.bulk.mapping import Mapping
from modelyard.jobs.bulk.order import Mark
from modelyard.jobs.bulk.pieces import (
    MOST_BYTES,
    MOST_ROW_BYTES,
    HowMany,
    Piece,
    Pieces,
    Rows,
)

READ_BYTES = 256 << 10
BOM = b"\xef\xbb\xbf"
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Lines:
    """The lines of a stream, without their ends. None takes more memory than a row may.

    Attributes:
        offset: Of what comes next.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._found: list[bytes] = []
        self._at = 0
        self._tail = b""
        self._cut_bytes = 0
        self.offset = 0

    def seek(self, offset: int) -> None:
        """Go on elsewhere."""
        self._stream.seek(offset)
        self._found, self._at, self._tail, self.offset = [], 0, b"", offset

    def next(self) -> bytes | None:
        """Return a line; None at the end of the stream."""
        found = self.block(1)
        return found[0] if found else None

    def block(self, most: int) -> list[bytes]:
        """Return the next lines: at most so many, and not many more bytes than a piece should have.
        A line that is too long is cut.
        """
        block: list[bytes] = []
        size = 0
        while len(block) < most and size < MOST_BYTES and (self._found or self._read()):
            end = self._at + most - len(block)
            some = self._found[self._at : end]
            block += some
            size += sum(map(len, some)) + len(some) + self._cut_bytes
            self._at, self._cut_bytes = end, 0
            if end >= len(self._found):
                self._found, self._at = [], 0
        self.offset += size
        return block

    def _read(self) -> bool:
        """Read more lines; returns whether there are some."""
        data, tail = [self._tail], self._tail
        size = len(tail)
        while size < MOST_ROW_BYTES and (tail := self._stream.read(READ_BYTES)):
            data.append(tail)
            size += len(tail)
            if b"\n" in tail:
                *self._found, self._tail = b"".join(data).split(b"\n")
                return True
        line, self._tail = b"".join(data), b""
        if len(line) >= MOST_ROW_BYTES:
            self._skip_line()
        else:
            self._cut_bytes = -1  # the last one has no end
        self._found = [line] if line else []
        return bool(line)

    def _skip_line(self) -> None:
        """Read past the rest of a line that is cut."""
        while rest := self._stream.read(READ_BYTES):
            skipped, end, self._tail = rest.partition(b"\n")
            self._cut_bytes += len(skipped)
            if end:
                return
        self._cut_bytes -= 1


def read_lines(
    stream: IO[bytes], mapping: Mapping | None, *, most: HowMany, mark: Mark, keep: list[str]
) -> Pieces:
    """Read JSON Lines: a row is an instance as it is, or an object of named cells.

    Args:
        stream: Has them.
        mapping: Makes instances; None if the lines are passed on as they are.
        most: How many rows the next piece should have.
        mark: Where to begin.
        keep: Fields that are kept for the output.
    """
    lines, first = Lines(stream), mark.row
    if mark.offset:
        lines.seek(mark.offset)
    is_named = mapping is not None and mapping.of_object_is_needed
    while block := lines.block(most()):
        if not first and block[0].startswith(BOM):
            block[0] = block[0][len(BOM) :]
        texts = [text for line in block if (text := line.strip())]
        is_direct = not keep and not (is_named and any(one[:1] == b"{" for one in texts))
        piece = _as_they_are(texts, first, lines.offset) if is_direct else None
        if piece is None:
            piece = _one_by_one(texts, first, lines.offset, mapping, keep)
        first = piece.mark.row
        if piece.numbers or piece.bad:
            yield piece


def _as_they_are(texts: list[bytes], first: int, offset: int) -> Piece | None:
    """Return a piece whose lines are instances already; None if one of them is not even JSON."""
    body = b"[" + b",".join(texts) + b"]"
    try:
        if list(map(bytes, _raws(body))) != texts:
            return None
    except msgspec.DecodeError:
        return None
    end = first + len(texts)
    return Piece(numbers=range(first, end), body=body, bad=(), mark=Mark(row=end, offset=offset))


def _one_by_one(
    texts: list[bytes], first: int, offset: int, mapping: Mapping | None, keep: list[str]
) -> Piece:
    rows = Rows(first)
    for text in texts:
        try:
            instance: Any = _raw(text)
            kept: list[Any] = []
            if keep:
                cells = _object(text)
                kept = [msgspec.json.decode(cells[k]) if k in cells else None for k in keep]
            made = None
            if mapping is not None and text[:1] == b"{":
                made = mapping.of_object(text)
            rows.add(instance if made is None else made, kept)
        except msgspec.DecodeError as error:
            is_cut = len(text) >= MOST_ROW_BYTES
            rows.set_aside("malformed", "the line is too long" if is_cut else f"no JSON: {error}")
        except InvalidInput as error:
            rows.set_aside(error.code, error.detail, error.where)
    return rows.piece(offset)


def read_csv(
    stream: IO[bytes], mapping: Mapping, *, most: HowMany, mark: Mark, keep: list[str]
) -> Pieces:
    """Read CSV, in UTF-8 and with commas. The first row names the columns, if not all of its cells
    are numbers.

    Args:
        stream: Has it.
        mapping: Makes instances.
        most: How many rows the next piece should have.
        mark: Where to begin.
        keep: Columns that are kept for the output.

    Raises:
        InvalidInput: It has not the columns that the model takes.
    """
    lines = Lines(stream)
    names, begins = _header(lines)
    if missing := [name for name in keep if name not in names]:
        raise InvalidInput(f"there is no column {missing[0]!r} to be kept")
    make = mapping.maker(names, is_text=True)
    kept = [names.index(name) for name in keep]
    are_numbers = None
    if mapping.is_of_numbers and not keep:
        are_numbers = msgspec.json.Decoder(list[tuple[(float,) * len(names)]]).decode  # type: ignore[misc]
    lines.seek(mark.offset or begins)
    first = mark.row
    while block := lines.block(most()):
        piece = None
        if are_numbers is not None:
            piece = _of_numbers(block, first, lines.offset, are_numbers)
        if piece is None:
            piece = _of_cells(block, lines, first, make=make, width=len(names), kept=kept)
        first = piece.mark.row
        if piece.numbers or piece.bad:
            yield piece


def _header(lines: Lines) -> tuple[list[str], int]:
    """Return the names of the columns, and where the rows begin."""
    first = lines.next() or b""
    begins = lines.offset
    text = first.removeprefix(BOM)
    try:
        decoded = text.decode()
        cells = next(csv.reader([decoded]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"the first line is no CSV in UTF-8: {error}") from None
    if not cells:
        raise InvalidInput("the input is empty, or its first line is")
    if all(map(_is_number, cells)):
        return [str(index) for index in range(len(cells))], len(first) - len(text)
    return [cell.strip() for cell in cells], begins


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _of_numbers(
    block: list[bytes], first: int, offset: int, read: Callable[[bytes], list[Any]]
) -> Piece | None:
    """Return a piece of lines that are numbers, with commas between them, as JSON has them too;
    None if one is not. They are read to see that, and passed on as they are.
    """
    body = b"[[" + b"],[".join(block) + b"]]"
    try:
        if len(read(body)) != len(block):
            return None
    except msgspec.DecodeError:
        return None
    end = first + len(block)
    return Piece(numbers=range(first, end), body=body, bad=(), mark=Mark(row=end, offset=offset))


def _of_cells(
    block: list[bytes],
    lines: Lines,
    first: int,
    *,
    make: Callable[[list[str]], Any],
    width: int,
    kept: list[int],
) -> Piece:
    """Return a piece of lines, and of those after them that belong to their last row."""
    rows, texts = Rows(first), _Texts(block, lines)
    reader = csv.reader(texts.pull())
    while not texts.is_over:
        try:
            row = next(reader, None)
            if row is None:
                break
            if not row:
                continue  # an empty line
            if len(row) != width:
                problem = f"there are {len(row)} cells, and {width} columns"
                rows.set_aside("malformed", problem)
                continue
            rows.add(make(row), [row[index] for index in kept])
        except InvalidInput as error:
            rows.set_aside(error.code, error.detail, error.where)
        except (csv.Error, UnicodeDecodeError) as error:
            rows.set_aside("malformed", f"no CSV in UTF-8: {error}")
            reader = csv.reader(texts.pull())
    return rows.piece(lines.offset)


class _Texts:
    """The lines of a block as text, and of those after it as many as are asked for."""

    def __init__(self, block: list[bytes], lines: Lines) -> None:
        self._block = block
        self._lines = lines
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Whether the block is."""
        return self._at >= len(self._block)

    def pull(self) -> Iterator[str]:
        """Yield lines."""
        while True:
            line = self._lines.next() if self.is_over else self._block[self._at]
            self._at += 1
            if line is None:
                return
            yield line.decode() + "\n"
