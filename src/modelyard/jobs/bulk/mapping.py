"""How rows become what a model takes, by the JSON Schema of its input.

A model of objects gets each row's cells by the names of its fields; columns that it does not know
are left out. A model of lists gets the cells of the columns that the caller names, or else of all
in their order. A model of single values gets the only column, or the only one that the caller
names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import msgspec

from modelyard.core.errors import InvalidInput
from modelyard.core.json_types import Schema, kinds_of, resolve

Kind = Literal["object", "list", "value"]
_SIMPLE = {"number", "integer", "boolean", "null", "array", "object"}


class Shape(NamedTuple):
    """What one instance is.

    Attributes:
        kind: A mapping, a list, or a single value.
        fields: Of an object, and the types that each may have.
        required: Those of them that have to be there.
        cell: The types of the elements of a list, or of the value.
        length: Of a list; None for any.
    """

    kind: Kind
    fields: dict[str, frozenset[str]]
    required: frozenset[str]
    cell: frozenset[str]
    length: int | None


def shape_of(schema: bytes) -> Shape:
    """Return what an instance is, from the schema of a list of them."""
    document: Schema = json.loads(schema or b"{}")
    wanted = resolve(resolve(document, document).get("items", {}), document)
    kinds = kinds_of(wanted, document)
    if "object" in kinds:
        properties = wanted.get("properties", {})
        fields = {name: kinds_of(one, document) for name, one in properties.items()}
        return Shape("object", fields, frozenset(wanted.get("required", ())), frozenset(), None)
    if "array" in kinds:
        least, most = wanted.get("minItems"), wanted.get("maxItems")
        cell = kinds_of(wanted.get("items", {}), document)
        return Shape("list", {}, frozenset(), cell, most if least == most else None)
    return Shape("value", {}, frozenset(), kinds, None)


class Mapping:
    """Makes instances of rows.

    Args:
        shape: What they are.
        columns: That the caller names; empty for all.
    """

    def __init__(self, shape: Shape, columns: Sequence[str]) -> None:
        self.shape = shape
        self._columns = list(columns)

    def choose(self, names: Sequence[str]) -> list[int]:
        """Return which of a table's columns are taken, in the order in which they are.

        Raises:
            InvalidInput: A column is missing, or there are too many.
        """
        shape, where = self.shape, {name: index for index, name in enumerate(names)}
        if self._columns:
            if missing := [name for name in self._columns if name not in where]:
                raise InvalidInput(f"there is no column {missing[0]!r}; there are {_told(names)}")
            chosen = [where[name] for name in self._columns]
        elif shape.kind == "object":
            if not shape.fields:
                return list(range(len(names)))
            if missing := sorted(shape.required - where.keys()):
                raise InvalidInput(
                    f"there is no column {missing[0]!r}, which the model takes; there are "
                    f"{_told(names)}"
                )
            chosen = [where[name] for name in shape.fields if name in where]
        else:
            chosen = list(range(len(names)))
        if shape.kind == "list" and shape.length not in (None, len(chosen)):
            raise InvalidInput(
                f"the model takes {shape.length} values, and there are {len(chosen)} columns: "
                f"{_told(names)}; name those that it takes, in their order, with columns"
            )
        if shape.kind == "value" and len(chosen) != 1:
            raise InvalidInput(
                f"the model takes a single value, and there are {len(chosen)} columns: "
                f"{_told(names)}; name one with columns"
            )
        return chosen

    def maker(self, names: Sequence[str], *, is_text: bool) -> Make:
        """Return what makes an instance of the cells of a row: all of them.

        Args:
            names: Of the columns.
            is_text: Whether cells are text, and are read as the model's types say.
        """
        chosen, shape = self.choose(names), self.shape
        named = [names[index] for index in chosen]
        if not is_text:
            return _of_values(shape.kind, chosen, named, width=len(names))
        cells = [(i, n, _reader(self._kinds_of(n))) for i, n in zip(chosen, named, strict=True)]
        if shape.kind == "list":
            return lambda row: [read(row[index], name) for index, name, read in cells]
        if shape.kind == "value":
            index, name, read = cells[0]
            return lambda row: read(row[index], name)
        required = shape.required
        return lambda row: {
            name: read(row[index], name)
            for index, name, read in cells
            if row[index] or name in required  # an empty cell leaves a field out that may be
        }

    def of_object(self, line: bytes) -> Any:
        """Return the instance in an object of a file of JSON; None if it is one as it is."""
        if self.shape.kind == "object" and not self._columns:
            return None
        found: dict[str, msgspec.Raw] = _read_object(line)
        names = self._columns or list(found)
        if missing := [name for name in names if name not in found]:
            raise InvalidInput(f"there is no field {missing[0]!r}")
        if self.shape.kind == "object":
            return {name: found[name] for name in names}
        if self.shape.kind == "list":
            return [found[name] for name in names]
        if len(names) != 1:
            raise InvalidInput("the model takes a single value: name the field with columns")
        return found[names[0]]

    @property
    def of_object_is_needed(self) -> bool:
        """Whether an object of a file of JSON is not an instance as it is."""
        return self.shape.kind != "object" or bool(self._columns)

    @property
    def is_of_numbers(self) -> bool:
        """Whether instances are lists of numbers alone, of columns as they come."""
        shape = self.shape
        return shape.kind == "list" and not self._columns and shape.cell == {"number"}

    def _kinds_of(self, name: str) -> frozenset[str]:
        shape = self.shape
        return shape.fields.get(name, frozenset()) if shape.kind == "object" else shape.cell


def _of_values(kind: Kind, chosen: list[int], named: list[str], *, width: int) -> Make:
    """Return what makes an instance of cells that are values already."""
    if kind == "value":
        return itemgetter(chosen[0])
    take: Make = lambda row: [row[index] for index in chosen]  # noqa: E731
    if chosen == list(range(width)):
        take = tuple
    return take if kind == "list" else (lambda row: dict(zip(named, take(row), strict=True)))


_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Make = Callable[[Sequence[Any]], Any]
Read = Callable[[str, str], Any]


def _reader(kinds: frozenset[str]) -> Read:
    """Return what reads a cell that is text as the types say."""
    if kinds == {"number"}:
        return _number
    if kinds and "string" in kinds and not kinds & {"number", "integer", "boolean"}:
        return (lambda cell, _: cell or None) if "null" in kinds else (lambda cell, _: cell)

    def read(cell: str, column: str) -> Any:
        if not cell and "null" in kinds:
            return None
        text = cell.strip()
        if "boolean" in kinds and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return json.loads(text)
        except ValueError:
            if "string" in kinds or not kinds & _SIMPLE:
                return cell
            said = " or ".join(sorted(kinds))
            raise InvalidInput(f"{cell[:40]!r} is no {said}", where=column) from None

    return read


def _number(cell: str, column: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InvalidInput(f"{cell[:40]!r} is no number", where=column) from None


def _told(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
