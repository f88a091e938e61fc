"""Models of lists over tensors: one tensor for ``list[T]``, one for each field of ``list[Struct]``.

Struct means also what msgspec treats so: a dataclass, a TypedDict, a NamedTuple.
"""

from __future__ import annotations

import math
import typing
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import inspect

from modelyard.core.datatypes import BOOL, FP64, INT64, LARGEST_EXACT, Datatype
from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.lists import (
    Instances,
    Lists,
    UnfitPredictions,
    as_unfit,
    to_builtin,
    to_json,
)
from modelyard.core.tensor_data import (
    MadeTensor,
    check_count,
    flatten,
    is_nested,
    nest,
    refused_data,
    values_of,
)
from modelyard.core.tensors import Cell, Spec, agree, cell_of
from modelyard.core.v2 import Axis, GivenTensor

_INT64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_AS_THEY_ARE = (bytes,)  # else bytes would become base64, as in JSON


class ListTensors:
    """The tensors of ``list[T]``.

    Args:
        lists: The same side as lists.
        name: Of the only tensor, where T has no fields.
    """

    def __init__(self, lists: Lists, *, name: str) -> None:
        self._lists = lists
        annotation = lists.annotation
        # In a struct of our own: msgspec would hash the annotation each time, which takes longer
        # than a small request.
        self._rows_type = msgspec.defstruct("Rows", [("rows", annotation)])
        element = inspect.type_info(typing.get_args(annotation)[0])
        fields = _fields_of(element)
        self._has_fields = self.is_named = fields is not None
        if fields is None:
            cell = cell_of(element)
            self.specs: tuple[Spec, ...] = (Spec(name, cell),)
        else:
            self.specs = tuple(
                Spec(field.encode_name, cell_of(field.type), is_optional=not field.required)
                for field in fields
            )
        self._has_documents = any(spec.cell.content == "json" for spec in self.specs)
        is_numbers = self.specs[0].cell.content == "numbers"
        self._is_plain = fields is None and is_numbers and _is_plain(element)
        # Its JSON is that of the lists.
        self._is_json_alike = fields is None and self.specs[0].cell.content in ("numbers", "text")
        self._row = list(self.specs[0].cell.row)
        self._read_usual = _usual_reader(self.specs[0].cell) if self._is_plain else None
        self._defaults = {field.encode_name: _default_of(field) for field in fields or ()}

    def read_usual(self, head: bytes | memoryview) -> Instances | None:
        """See ``Tensors``. Whatever is wrong is found, and said, by the other way."""
        if self._read_usual is None:
            return None
        try:
            (sent,) = self._read_usual(head).inputs
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        spec = self.specs[0]
        is_meant = not self.is_named or sent.name == spec.name
        if not is_meant or sent.shape[1:] != self._row or len(sent.data) != math.prod(sent.shape):
            return None
        return nest(sent.data, spec.cell.row)

    def read(self, given: dict[str, GivenTensor]) -> Instances:
        """Return the instances; see ``Tensors``."""
        kept = () if self._has_documents else _AS_THEY_ARE
        if not self._has_fields:
            ((only,), cell) = given.values(), self.specs[0].cell
            is_same = only.datatype == cell.datatype.name and not only.is_binary
            if is_same and self._is_json_alike and (not cell.row or is_nested(only)):
                return self._read_json(only, cell)
            column = self._column(only, cell)
            return column if self._is_plain else self._convert(column, kept)
        columns = {
            spec.name: self._column(given[spec.name], spec.cell)
            for spec in self.specs
            if spec.name in given
        }
        if not columns:
            raise InvalidInput("there are no inputs", where="$.inputs")
        names = list(columns)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return self._convert(rows, kept)

    def write(self, value: Any, *, is_checked: bool, is_json: bool) -> list[MadeTensor]:
        """Return predictions as tensors; see ``Tensors``."""
        if is_json and self._is_json_alike and not self.specs[0].cell.row:
            written = self._lists.encode(value, "json", is_checked=is_checked)
            return [MadeTensor(self.specs[0].cell.datatype, (len(value),), value, written)]
        try:
            rows = msgspec.to_builtins(value, builtin_types=_AS_THEY_ARE, enc_hook=to_builtin)
        except NotImplementedError as error:
            raise UnfitPredictions(f"the predictions have no form in JSON: {error}") from None
        if is_checked or self._has_fields:
            try:
                self._convert(rows, _AS_THEY_ARE)
            except msgspec.ValidationError as error:
                raise as_unfit(error) from None
        if not self._has_fields:
            return [_made(rows, self.specs[0])]
        return [
            _made([row.get(spec.name, self._defaults.get(spec.name)) for row in rows], spec)
            for spec in self.specs
        ]

    def _read_json(self, given: GivenTensor, cell: Cell) -> Instances:
        """Return instances whose JSON is the same as that of the lists."""
        _, shape = agree(given, cell)
        place = f"{given.place}.data"
        try:
            rows = self._lists.decode(given.data, "json")
        except msgspec.ValidationError as error:
            annotation = self._lists.annotation
            raise refused_data(error, place, cell.datatype, annotation=annotation) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error), where=place) from None
        check_count(len(rows), shape[:1], place)
        return rows

    def _convert(self, rows: list[Any], kept: tuple[type, ...]) -> list[Any]:
        try:
            converted: Any = msgspec.convert({"rows": rows}, self._rows_type, builtin_types=kept)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(str(error).replace("`$.rows", "`$", 1)) from None
        found: list[Any] = converted.rows
        return found

    def _column(self, given: GivenTensor, cell: Cell) -> list[Any]:
        """Return the value that each instance has in one tensor."""
        datatype, shape = agree(given, cell)
        values = values_of(given, datatype, shape)
        if cell.content == "numbers":
            values = _widen(values, given, datatype, cell)
        elif cell.content == "text":
            values = _read_text(values, given.place)
        elif cell.content == "bytes":
            values = [value.encode() if isinstance(value, str) else value for value in values]
            if self._has_documents:  # which have theirs in base64
                values = [b64encode(value).decode() for value in values]
        else:
            values = _read_documents(values, given.place)
        return nest(values, cell.row)


def _usual_reader(cell: Cell) -> Callable[[bytes | memoryview], Any] | None:
    """Return a decoder of requests with one flat tensor of numbers, which are read in one pass."""
    elements: dict[Datatype, Any] = {FP64: float, INT64: _INT64, BOOL: bool}
    element = elements.get(cell.datatype)
    if element is None:
        return None
    axes = Annotated[list[Axis], msgspec.Meta(min_length=1)]
    tensor = msgspec.defstruct(
        "UsualTensor",
        [
            *(("name", str), ("shape", axes), ("datatype", Literal[cell.datatype.name])),
            ("data", list.__class_getitem__(element)),
        ],
        forbid_unknown_fields=True,
        gc=False,
    )
    one = Annotated[list[tensor], msgspec.Meta(min_length=1, max_length=1)]  # type: ignore[valid-type]
    question = msgspec.defstruct(
        "UsualQuestion",
        [("inputs", one), ("outputs", None)],
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(question).decode


def _fields_of(kind: inspect.Type) -> Sequence[inspect.Field] | None:
    """Return the fields of a type that is written as an object with fixed keys, else None."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.StructType):
        return None if kind.array_like or kind.tag is not None else kind.fields or None
    if isinstance(kind, inspect.DataclassType | inspect.TypedDictType):
        return kind.fields or None
    return None


def _is_plain(kind: inspect.Type) -> bool:
    """Return whether every value of a tensor is valid for the type, so that no check is needed."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.ListType):
        return _is_plain(kind.item_type)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        bounds = (kind.gt, kind.ge, kind.lt, kind.le, kind.multiple_of)
        return all(bound is None for bound in bounds)
    return isinstance(kind, inspect.BoolType)


def _default_of(field: inspect.Field) -> Any:
    """Return the value of a field that a struct does not write because it has its default."""
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    is_any = field.default not in (msgspec.NODEFAULT, msgspec.UNSET)
    return msgspec.to_builtins(field.default, builtin_types=_AS_THEY_ARE) if is_any else None


def _widen(
    values: Sequence[Any], given: GivenTensor, datatype: Datatype, cell: Cell
) -> Sequence[Any]:
    wanted = cell.datatype
    if datatype.kind == wanted.kind:
        return values
    if wanted.kind != "float":
        return [int(value) for value in values]
    for value in values:
        if not -LARGEST_EXACT <= value <= LARGEST_EXACT:
            raise InvalidInput(
                f"{value} of {datatype.name} is not in {wanted.name}, which the model takes",
                where=given.place,
            )
    return [float(value) for value in values]


def _read_text(values: Sequence[Any], place: str) -> list[Any]:
    try:
        return [value if isinstance(value, str) else value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the text is not UTF-8: {error}", where=place) from None


def _read_documents(values: Sequence[Any], place: str) -> list[Any]:
    try:
        return [msgspec.json.decode(value) for value in values]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"each element is a JSON document: {error}", where=place) from None


def _made(column: list[Any], spec: Spec) -> MadeTensor:
    cell = spec.cell
    shape = (len(column), *cell.row)
    if cell.content == "json":
        return MadeTensor(cell.datatype, shape, [to_json(value) for value in column])
    return MadeTensor(cell.datatype, shape, flatten(column, cell.row))
