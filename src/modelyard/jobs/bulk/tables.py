"""Parquet and Arrow: rows in, and rows out. The library: ``modelyard[batch]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any

import msgspec

from modelyard.core.errors import InvalidInput
from modelyard.jobs.bulk.mapping import Make, Mapping
from modelyard.jobs.bulk.order import Format, Mark
from modelyard.jobs.bulk.pieces import HowMany, Pieces, Rows

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 8192
_ARROW_FILE = b"ARROW1"
_to_json = msgspec.json.Encoder().encode
_MISSING = "this server reads and writes no Parquet and Arrow: pip install 'modelyard[batch]'"


def check_tables() -> None:
    """See that the library is here.

    Raises:
        InvalidInput: It is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InvalidInput(_MISSING) from None


class Table:
    """A table that is read.

    Args:
        names: Of its columns.
        rows: How many it has; None if that is not known before.
        batches: Gives its rows, without so many of the first ones.
    """

    def __init__(
        self,
        names: list[str],
        rows: int | None,
        batches: Callable[[int], Iterator[pa.RecordBatch]],
    ) -> None:
        self._names = names
        self.rows = rows
        self._batches = batches

    def pieces(self, mapping: Mapping, *, most: HowMany, mark: Mark, keep: list[str]) -> Pieces:
        """Yield the pieces from a mark on.

        Raises:
            InvalidInput: It has not the columns that the model takes.
        """
        names = self._names
        if missing := [name for name in keep if name not in names]:
            raise InvalidInput(f"there is no column {missing[0]!r} to be kept")
        make = itemgetter(0) if self._is_of_lists(mapping) else mapping.maker(names, is_text=False)
        kept = [names.index(name) for name in keep]
        return self._read(make, kept, most, mark.row)

    def _is_of_lists(self, mapping: Mapping) -> bool:
        """Return whether its one column has the lists that the model takes."""
        return mapping.shape.kind == "list" and len(self._names) == 1

    def _read(self, make: Make, kept: list[int], most: HowMany, first: int) -> Pieces:
        try:
            for batch in self._batches(first):
                rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                while some := list(islice(rows, most())):
                    gathered = Rows(first)
                    cells = [[row[index] for index in kept] for row in some]
                    gathered.add_all(list(map(make, some)), cells)
                    piece = gathered.piece(0)
                    first = piece.mark.row
                    yield piece
        except (OSError, ValueError) as error:
            raise InvalidInput(f"the table is damaged: {error}") from error


def open_table(stream: IO[bytes], format: Format) -> Table:  # noqa: A002
    """Return the table in a stream.

    Raises:
        InvalidInput: It is none, or the library is missing.
    """
    check_tables()
    import pyarrow as pa

    try:
        return _open_parquet(stream) if format == "parquet" else _open_arrow(stream)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"the input is no {format} file: {error}") from error


def _open_parquet(stream: IO[bytes]) -> Table:
    from pyarrow import parquet

    # Without threads: what is decoded at once has to be bounded, and others have to run.
    file = parquet.ParquetFile(stream, pre_buffer=False)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        group = 0
        while group < len(sizes) and skip >= sizes[group]:
            skip -= sizes[group]
            group += 1
        groups = list(range(group, len(sizes)))
        if not groups:
            return
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, use_threads=False):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield batch.slice(skip)
            skip = 0

    return Table(list(file.schema_arrow.names), file.metadata.num_rows, batches)


def _open_arrow(stream: IO[bytes]) -> Table:
    import pyarrow as pa

    begin = stream.read(len(_ARROW_FILE))
    stream.seek(0)
    rows = None
    if begin == _ARROW_FILE:
        file = pa.ipc.open_file(stream)
        found = (file.get_batch(index) for index in range(file.num_record_batches))
        schema = file.schema
    else:
        reader = pa.ipc.open_stream(stream)
        found, schema = iter(reader), reader.schema

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        for batch in found:
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            for start in range(skip, batch.num_rows, ROWS_AT_ONCE):
                yield batch.slice(start, ROWS_AT_ONCE)
            skip = 0

    return Table(list(schema.names), rows, batches)


def write_table(
    stream: IO[bytes],
    lines: Callable[[], Iterator[bytes]],
    *,
    output: Format,
    keep: Sequence[str],
) -> None:
    """Write the lines of an output as a table.

    The type of a column is what all of its values are: they are looked at before. What has parts
    and is no list of numbers is written as its JSON.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = [*keep, "prediction"]
    kinds: dict[str, set[str]] = {name: set() for name in names}
    for rows in _rows(lines()):
        for name in names:
            kinds[name].update(map(_kind_of, (row.get(name) for row in rows)))
    types = {name: _type_of(found) for name, found in kinds.items()}
    schema = pa.schema(
        [("row", pa.int64()), *((name, types[name] or pa.string()) for name in names)]
    )
    writer = (
        parquet.ParquetWriter(stream, schema)
        if output == "parquet"
        else pa.ipc.new_stream(stream, schema)
    )
    with writer:
        for rows in _rows(lines()):
            columns = [pa.array([row["row"] for row in rows], pa.int64())]
            for name in names:
                values: list[Any] = [row.get(name) for row in rows]
                if types[name] is None:
                    values = [None if v is None else _to_json(v).decode() for v in values]
                columns.append(pa.array(values, schema.field(name).type))
            writer.write(pa.record_batch(columns, schema=schema))


def _rows(lines: Iterator[bytes]) -> Iterator[list[dict[str, Any]]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    while some := list(map(decode, islice(lines, ROWS_AT_ONCE))):
        yield some


def _kind_of(value: Any) -> str:
    if isinstance(value, list):
        inside = {type(one).__name__ for one in value}
        return "list" if inside <= {"int", "float"} else "other"
    return type(value).__name__


def _type_of(kinds: set[str]) -> Any:
    """Return the type of a column; None for JSON."""
    import pyarrow as pa

    kinds = kinds - {"NoneType"}
    for fitting, made in (
        ({"int"}, pa.int64()),
        ({"int", "float"}, pa.float64()),
        ({"bool"}, pa.bool_()),
        ({"str"}, pa.string()),
        ({"list"}, pa.list_(pa.float64())),
    ):
        if kinds and kinds <= fitting:
            return made
    return None
