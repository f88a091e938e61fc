"""Reads rows from CSV and JSON Lines, piece by piece. Each line is looked at once, and where all of
a piece is as the model takes it, no row of it is made an object: its text is passed on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec

from modelyard.core.errors import InvalidInput
from modelyard.jobs.bulk.mapping import Mapping
from modelyard.jobs.bulk.order import Mark
from modelyard.jobs.bulk.pieces import MOST_BYTES, MOST_ROW_BYTES, Piece, Pieces, Rows

BOM = b"\xef\xbb\xbf"
_NUMBER = rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?"
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Lines:
    """The lines of a stream, of which none takes more memory than a row may.

    Attributes:
        offset: Of what comes next.
    """

    def __init__(self, stream: IO[bytes], offset: int = 0) -> None:
        self._stream = stream
        self.offset = offset
        self.taken = 0

    def seek(self, offset: int) -> None:
        """Go on elsewhere."""
        self._stream.seek(offset)
        self.offset = offset

    def next(self) -> bytes:
        """Return a line with its end; empty at the end of the stream. One that is too long is cut,
        and so has no end.
        """
        line = self._stream.readline(MOST_ROW_BYTES)
        self.offset += len(line)
        self.taken += 1
        if len(line) == MOST_ROW_BYTES and not line.endswith(b"\n"):
            while rest := self._stream.readline(MOST_ROW_BYTES):
                self.offset += len(rest)
                if rest.endswith(b"\n"):
                    break
        return line

    def block(self, most: int) -> list[bytes]:
        """Return the next lines: at most so many, and no more bytes than a piece should have."""
        found: list[bytes] = []
        size = 0
        while len(found) < most and size < MOST_BYTES and (line := self.next()):
            found.append(line)
            size += len(line)
        return found


def read_lines(
    stream: IO[bytes], mapping: Mapping | None, *, most: int, mark: Mark, keep: list[str]
) -> Pieces:
    """Read JSON Lines: a row is an instance as it is, or an object of named cells.

    Args:
        stream: Has them.
        mapping: Makes instances; None if the lines are passed on as they are.
        most: How many rows fill a batch.
        mark: Where to begin.
        keep: Fields that are kept for the output.
    """
    lines, first = Lines(stream), mark.row
    if mark.offset:
        lines.seek(mark.offset)
    is_named = mapping is not None and mapping.of_object_is_needed
    while block := lines.block(most):
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
            instance = bytes(_raw(text))
            kept: list[Any] = []
            if keep:
                cells = _object(text)
                kept = [msgspec.json.decode(cells[k]) if k in cells else None for k in keep]
            if mapping is not None and text[:1] == b"{":
                instance = mapping.of_object(text) or instance
            rows.add(instance, kept)
        except msgspec.DecodeError as error:
            is_cut = len(text) >= MOST_ROW_BYTES
            rows.set_aside("malformed", "the line is too long" if is_cut else f"no JSON: {error}")
        except InvalidInput as error:
            rows.set_aside(error.code, error.detail, error.where)
    return rows.piece(offset)


def read_csv(
    stream: IO[bytes], mapping: Mapping, *, most: int, mark: Mark, keep: list[str]
) -> Pieces:
    """Read CSV, in UTF-8 and with commas. The first row names the columns, if not all of its cells
    are numbers.

    Args:
        stream: Has it.
        mapping: Makes instances.
        most: How many rows fill a batch.
        mark: Where to begin.
        keep: Columns that are kept for the output.

    Raises:
        InvalidInput: It has not the columns that the model takes.
    """
    lines = Lines(stream)
    names, begins = _header(lines)
    if missing := [name for name in keep if name not in names]:
        raise InvalidInput(f"there is no column {missing[0]!r} to be kept")
    write = mapping.writer(names, is_text=True)
    kept = [names.index(name) for name in keep]
    are_numbers = None
    if mapping.is_of_numbers and not keep:
        row = b",".join([_NUMBER] * len(names))
        are_numbers = re.compile(rb"(?:" + row + rb"\r?\n)+").fullmatch
    lines.seek(mark.offset or begins)
    first = mark.row
    while block := lines.block(most):
        piece = None
        text = b"".join(block)
        if are_numbers is not None and are_numbers(text) is not None:
            piece = _of_numbers(text, first, len(block), lines.offset)
        else:
            piece = _of_cells(block, lines, first, write=write, width=len(names), kept=kept)
        first = piece.mark.row
        if piece.numbers or piece.bad:
            yield piece


def _header(lines: Lines) -> tuple[list[str], int]:
    """Return the names of the columns, and where the rows begin."""
    first = lines.next()
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


def _of_numbers(text: bytes, first: int, rows: int, offset: int) -> Piece:
    cells = text.replace(b"\r\n", b"\n")[:-1].replace(b"\n", b"],[")
    end = first + rows
    mark = Mark(row=end, offset=offset)
    return Piece(numbers=range(first, end), body=b"[[" + cells + b"]]", bad=(), mark=mark)


def _of_cells(
    block: list[bytes],
    lines: Lines,
    first: int,
    *,
    write: Callable[[list[str]], bytes],
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
            rows.add(write(row), [row[index] for index in kept])
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
            if self._at < len(self._block):
                line = self._block[self._at]
                self._at += 1
            elif not (line := self._lines.next()):
                return
            yield line.decode()
