"""What ``modelyard predict`` sends: JSON that was typed or piped, a JSON file, rows of CSV, or a
file that is no text, as an image.

A CSV file has no types, so its cells are read as the model's input schema says.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.cli.mistakes import UsageError, warn
from modelyard.core.json_types import Schema, kinds_of, resolve

_TEXTS = (".csv", ".json")


def read_instances(given: str, *, schema: Callable[[], Schema]) -> Any:
    """Return the instances that ``given`` stands for: JSON, ``-`` for standard input, or ``@FILE``;
    or the bytes of a file that is no text: an instance as it is.

    ``schema`` gives the model's input schema; asked only for CSV.

    Raises:
        UsageError: There is no such file, or it holds something else.
    """
    if not given.startswith("@"):
        return _parse(sys.stdin.read() if given == "-" else given, "the input")
    path = Path(given[1:])
    suffix = path.suffix.lower()
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # as spreadsheets write it
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        if suffix not in _TEXTS:
            return content
        raise UsageError(f"{path} cannot be read: {error}") from error
    if suffix == ".csv":
        return read_rows(text, schema=schema(), source=str(path))
    return _parse(text, str(path))


def _parse(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is not JSON: {error}") from error


def read_rows(text: str, *, schema: Schema, source: str) -> list[Any]:
    """Return an instance per row, as ``schema`` (of all of the input) wants them.

    Objects: the first row names the fields. Lists and single values: a first row that cannot be
    read as one is taken for the names of the columns, and left out.

    Raises:
        UsageError: A cell is not what the schema says; the text names row and column.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    wanted = resolve(schema.get("items", {}), schema)
    kinds = kinds_of(wanted, schema)
    if "object" in kinds:
        return _objects(rows, wanted, schema, source)
    is_list = "array" in kinds
    cell = wanted.get("items", {}) if is_list else wanted
    instances: list[Any] = []
    for number, row in enumerate(rows, start=1):
        try:
            values = [_value(text, cell, schema, f"column {i}") for i, text in enumerate(row, 1)]
        except ValueError as error:
            if number == 1 and len(rows) > 1:
                warn(f"{source}: row 1 is left out, as the names of the columns")
                continue
            raise UsageError(f"{source}, row {number}, {error}") from error
        if not is_list and len(values) != 1:
            raise UsageError(f"{source}, row {number}: {len(values)} cells; the model takes one")
        instances.append(values if is_list else values[0])
    return instances


def _objects(rows: list[list[str]], wanted: Schema, document: Schema, source: str) -> list[Any]:
    fields, names = wanted.get("properties", {}), rows[0] if rows else []
    required = wanted.get("required", names)
    instances = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise UsageError(f"{source}, row {number}: {len(row)} cells, and {len(names)} names")
        try:
            instances.append(
                {
                    name: _value(cell, fields.get(name, {}), document, name)
                    for name, cell in zip(names, row, strict=True)
                    if cell or name in required  # an empty cell leaves a field out that may be
                }
            )
        except ValueError as error:
            raise UsageError(f"{source}, row {number}, {error}") from error
    return instances


def _value(cell: str, schema: Schema, document: Schema, column: str) -> Any:
    kinds = kinds_of(schema, document)
    if not cell and "null" in kinds:
        return None
    if "string" in kinds and not kinds & {"number", "integer", "boolean"}:
        return cell
    text = cell.strip()
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return json.loads(text)
    except ValueError:
        if "string" in kinds or not kinds:
            return cell
        raise ValueError(f"{column}: {cell!r} is no {' or '.join(sorted(kinds))}") from None
