"""The tensors that a side of a contract is, for protocols that speak of tensors.

What a model takes and gives is told by its annotations alone: ``cell_of`` reads one of them, and
``Tensors`` is what every kind of side has to offer. Axis 0 of each tensor is the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import inspect

from modelyard.core.datatypes import BOOL, BYTES, DATATYPES, FP16, FP64, INT64, Datatype, holds
from modelyard.core.errors import InvalidInput
from modelyard.core.lists import Instances
from modelyard.core.tensor_data import MadeTensor
from modelyard.core.v2 import GivenTensor, Question, Wanted, choose_outputs

Content = Literal["numbers", "text", "bytes", "json"]
"""What the elements of a tensor are; the last three are BYTES. ``json``: a document for each."""


class Cell(NamedTuple):
    """What one instance is in a tensor: its datatype and the lengths of its axes."""

    datatype: Datatype
    row: tuple[int, ...]
    content: Content


class Spec(NamedTuple):
    """One tensor of a model. ``is_optional``: whether a request may leave it out."""

    name: str
    cell: Cell
    is_optional: bool = False

    @property
    def shape(self) -> list[int]:
        """With the batch, whose length is not known."""
        return [-1, *self.cell.row]


class Tensors(Protocol):
    """A side of a contract, seen as tensors.

    Attributes:
        specs: What they are, in their order.
        is_named: Whether the model's author gave the names. Else any name in a request will do.
    """

    specs: tuple[Spec, ...]
    is_named: bool

    def read(self, given: dict[str, GivenTensor]) -> Instances:
        """Return the instances in a request's tensors, keyed by the names of the specs.

        Raises:
            InvalidInput, msgspec.ValidationError: They are not what the model takes.
        """
        ...

    def read_usual(self, head: bytes | memoryview) -> Instances | None:
        """Return the instances of a request that is what clients usually send: one input of the
        model's own datatype, in JSON, and all outputs in JSON. None for any other.
        """
        ...

    def write(self, value: Any, *, is_checked: bool, is_json: bool) -> list[MadeTensor]:
        """Return predictions as tensors, one for each of the specs. ``is_json``: all of them will
        be written as JSON.

        Raises:
            UnfitPredictions: They are not what the annotation says.
        """
        ...


def cell_of(kind: inspect.Type) -> Cell:
    """Return how an instance of a type is held in a tensor; by default, as a JSON document."""
    row: list[int] = []
    inner = kind
    while (length := _fixed_length(inner := _bare(inner))) is not None:
        row.append(length)
        inner = inner.item_types[0] if isinstance(inner, inspect.TupleType) else inner.item_type  # type: ignore[attr-defined]
    found = _scalar(inner)
    return Cell(found[0], tuple(row), found[1]) if found else Cell(BYTES, (), "json")


def _bare(kind: inspect.Type) -> inspect.Type:
    """Return a type without its ``Annotated`` metadata."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _fixed_length(kind: inspect.Type) -> int | None:
    """Return the length of a list or tuple type if it is fixed and positive, else None."""
    if isinstance(kind, inspect.TupleType):
        first = kind.item_types[0] if kind.item_types else None
        return len(kind.item_types) if all(t == first for t in kind.item_types) else None
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        length = kind.max_length
        return length if length and length == kind.min_length else None
    return None


def _scalar(kind: inspect.Type) -> tuple[Datatype, Content] | None:
    if isinstance(kind, inspect.LiteralType):
        if all(isinstance(value, str) for value in kind.values):
            return BYTES, "text"
        return (INT64, "numbers") if all(type(v) is int for v in kind.values) else None
    known: dict[type[inspect.Type], tuple[Datatype, Content]] = {
        inspect.BoolType: (BOOL, "numbers"),
        inspect.IntType: (INT64, "numbers"),
        inspect.FloatType: (FP64, "numbers"),
        inspect.StrType: (BYTES, "text"),
        inspect.BytesType: (BYTES, "bytes"),
    }
    return known.get(type(kind))


def match(given: Sequence[GivenTensor], tensors: Tensors) -> dict[str, GivenTensor]:
    """Return the inputs of a request, by the names of the model's inputs.

    Raises:
        InvalidInput: One is unknown, missing, or there twice; or they are of different lengths.
    """
    if len(given) == len(tensors.specs) == 1 and (given[0].shape is None or not tensors.is_named):
        return {tensors.specs[0].name: given[0]}
    specs = {spec.name: spec for spec in tensors.specs}
    if given and given[0].shape is None:
        raise InvalidInput(f"a raw request has one input; the model takes {', '.join(specs)}")
    found: dict[str, GivenTensor] = {}
    for tensor in given:
        if tensor.name not in specs:
            raise InvalidInput(
                f"the model takes no input {tensor.name!r}; it takes {', '.join(specs)}",
                where=tensor.place,
            )
        if tensor.name in found:
            raise InvalidInput(f"input {tensor.name!r} is there twice", where=tensor.place)
        found[tensor.name] = tensor
    for spec in tensors.specs:
        if spec.name not in found and not spec.is_optional:
            raise InvalidInput(f"input {spec.name!r} is missing", where="$.inputs")
    counts = {tensor.shape[0] for tensor in found.values() if tensor.shape}
    if len(counts) > 1:
        raise InvalidInput(
            f"axis 0, the batch, is as long in all inputs; there are {sorted(counts)}",
            where="$.inputs",
        )
    return found


def known_datatype(name: str, place: str) -> Datatype:
    """Return the datatype of this name.

    Raises:
        InvalidInput: It is none that is taken.
    """
    datatype = DATATYPES.get(name)
    if datatype is None:
        raise InvalidInput(
            f"{name[:40]!r} is no datatype that is taken here; those are {', '.join(DATATYPES)}",
            where=place,
        )
    return datatype


def agree(given: GivenTensor, cell: Cell) -> tuple[Datatype, tuple[int, ...]]:
    """Return the datatype and shape of an input, checked to be the model's or narrower.

    Raises:
        InvalidInput: They are not; names both.
    """
    if given.shape is None:
        return cell.datatype, (1, *cell.row)
    datatype = known_datatype(given.datatype, given.place)
    if not holds(cell.datatype, datatype):
        raise InvalidInput(
            f"the input is {datatype.name}, the model takes {cell.datatype.name}, "
            f"which does not hold every {datatype.name}",
            where=given.place,
        )
    if given.shape[1:] != cell.row or not given.shape:
        raise InvalidInput(
            f"the input has shape {list(given.shape)}, the model takes {[-1, *cell.row]}; "
            "axis 0 is the batch",
            where=given.place,
        )
    return datatype, given.shape


def choose(question: Question, tensors: Tensors) -> list[Wanted]:
    """Return the outputs that a request wants.

    Raises:
        InvalidInput: There is no such output, or it cannot be had so.
    """
    names = [spec.name for spec in tensors.specs]
    wanted = choose_outputs(question, names, is_named=tensors.is_named)
    for number, name, is_binary in wanted:
        if not is_binary and tensors.specs[number].cell.datatype is FP16:
            raise InvalidInput(
                f"output {name!r} is FP16, which has no form in JSON: ask for binary_data",
                where="$.outputs",
            )
    return wanted


def describe(tensors: Tensors) -> list[dict[str, Any]]:
    """Return the metadata of a side."""
    return [
        {
            "name": spec.name,
            "datatype": spec.cell.datatype.name,
            "shape": spec.shape,
            **({"parameters": parameters} if (parameters := _parameters(spec)) else {}),
        }
        for spec in tensors.specs
    ]


def _parameters(spec: Spec) -> dict[str, Any]:
    more: dict[str, Any] = {"optional": True} if spec.is_optional else {}
    return more | ({"content_type": "application/json"} if spec.cell.content == "json" else {})
