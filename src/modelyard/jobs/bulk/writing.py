"""Writes the output: first what came of each piece, as lines; then of all chunks one file.

Each line has the number of its row. The lines of CSV and JSON Lines are those of the output
already, so that the file is made by putting the chunks one after the other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, repeat, starmap
from typing import IO, Any

import msgspec

from modelyard.jobs.bulk.asking import Answered
from modelyard.jobs.bulk.chunks import Lines, part_name
from modelyard.jobs.bulk.interfaces import Place
from modelyard.jobs.bulk.order import Chunk, Format

COPY_BYTES = 1 << 20
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_to_json = msgspec.json.Encoder().encode
_to_lines = msgspec.json.Encoder().encode_lines
_NOT_PLAIN = (b'"', b"{", b"[")


def lines_of(output: Format, keep: Sequence[str]) -> Lines:
    """Return how what comes of rows is written."""
    write = _csv_lines if output == "csv" else partial(_json_lines, _fragments(keep))
    return Lines(write, lambda failure: _to_json(failure) + b"\n")


def _fragments(keep: Sequence[str]) -> list[bytes]:
    return [b",%b:" % _to_json(name) for name in keep]


class _Line(msgspec.Struct, gc=False):
    row: int
    prediction: msgspec.Raw


def _json_lines(names: list[bytes], answered: Answered) -> bytes:
    made: list[bytes] = []
    for numbers, kept, answer in answered.outputs:
        predictions = _split(answer)
        if not kept:
            lines = starmap(_Line, zip(numbers, predictions, strict=True))
            made.append(_to_lines(list(lines)))
            continue
        for number, prediction, cells in zip(numbers, predictions, kept, strict=True):
            parts = (name + _to_json(cell) for name, cell in zip(names, cells, strict=True))
            made.append(b'{"row":%d%b,"prediction":%b}\n' % (number, b"".join(parts), prediction))
    return b"".join(made)


def _csv_lines(answered: Answered) -> bytes:
    made: list[bytes] = []
    for numbers, kept, answer in answered.outputs:
        if not kept and not any(sign in answer[1:] for sign in _NOT_PLAIN):
            pairs = zip(numbers, answer[1:-1].split(b","), strict=True)
            plain = tuple(chain.from_iterable(pairs))
            made.append((b"%d,%b\r\n" * len(numbers)) % plain)
            continue
        predictions = _split(answer)
        text = io.StringIO()
        write = csv.writer(text).writerow
        cells = kept or repeat((), len(predictions))
        for number, prediction, some in zip(numbers, predictions, cells, strict=True):
            write([number, *map(_cell, some), _cell(msgspec.json.decode(prediction))])
        made.append(text.getvalue().encode())
    return b"".join(made)


def _cell(value: Any) -> Any:
    """Return what stands in a cell of CSV: text as it is, and JSON of what has parts."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _to_json(value).decode()


def was_made(place: Place, uid: str, chunks: Sequence[Chunk]) -> bool:
    """Return whether the output was made before: then what it was made of is gone, or begins to be.
    Blocks.
    """
    if not chunks:
        return False
    return place.size(part_name(uid, chunks[0], "out")) is None


def write_output(
    place: Place, uid: str, chunks: Sequence[Chunk], *, output: Format, keep: Sequence[str]
) -> None:
    """Make the output of all chunks. Blocks."""
    name = f"runs/{uid}/output"
    if output in ("parquet", "arrow"):
        from modelyard.jobs.bulk.tables import write_table

        with place.writing(name) as stream:
            write_table(stream, lambda: _lines(place, uid, chunks), output=output, keep=keep)
    else:
        head = b""
        if output == "csv":
            text = io.StringIO()
            csv.writer(text).writerow(["row", *keep, "prediction"])
            head = text.getvalue().encode()
        with place.writing(name) as stream:
            stream.write(head)
            for chunk in chunks:
                _copy(place, part_name(uid, chunk, "out"), stream)


def write_errors(place: Place, uid: str, chunks: Sequence[Chunk]) -> None:
    """Make the file of failures, as JSON Lines. Blocks."""
    name = f"runs/{uid}/errors"
    with place.writing(name) as stream:
        for chunk in chunks:
            if chunk.failed:
                _copy(place, part_name(uid, chunk, "err"), stream)


def remove_parts(place: Place, uid: str) -> None:
    """Remove what the output was made of. Blocks."""
    for name in place.names(f"runs/{uid}"):
        if name.endswith((".out", ".err")):
            place.remove(f"runs/{uid}/{name}")


def _copy(place: Place, name: str, to: IO[bytes]) -> None:
    with place.open(name) as stream:
        while piece := stream.read(COPY_BYTES):
            to.write(piece)


def _lines(place: Place, uid: str, chunks: Sequence[Chunk]) -> Iterator[bytes]:
    for chunk in chunks:
        with place.open(part_name(uid, chunk, "out")) as stream:
            yield from stream
