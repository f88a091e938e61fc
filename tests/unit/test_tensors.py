"""What annotations are as tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np
import pytest
from msgspec import Meta

from modelyard import Tensor
from tests.unit.contracts import contract_for
from tests.unit.tensors import Person, Row

Grid = Annotated[
    list[Annotated[list[int], Meta(min_length=3, max_length=3)]], Meta(max_length=2, min_length=2)
]


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class Point(TypedDict):
    x: float
    y: float


@dataclass
class Place:
    street: str
    number: int


class Tagged(msgspec.Struct, tag=True):
    a: int


class Empty(msgspec.Struct):
    pass


DOCUMENTS = {"content_type": "application/json"}


def inputs_of(annotation: Any) -> list[Any]:
    found: list[Any] = json.loads(contract_for(annotation).tensors)["inputs"]
    return found


@pytest.mark.parametrize(
    ("annotation", "datatype", "shape"),
    [
        (list[float], "FP64", [-1]),
        (list[int], "INT64", [-1]),
        (list[bool], "BOOL", [-1]),
        (list[str], "BYTES", [-1]),
        (list[bytes], "BYTES", [-1]),
        (list[Annotated[float, Meta(ge=0)]], "FP64", [-1]),
        (list[Literal["a", "b"]], "BYTES", [-1]),
        (list[Literal[0, 1]], "INT64", [-1]),
        (list[Row], "FP64", [-1, 4]),
        (list[Grid], "INT64", [-1, 2, 3]),
        (list[tuple[int, int]], "INT64", [-1, 2]),
        (Annotated[np.ndarray, Tensor("float16", (3, 2))], "FP16", [-1, 3, 2]),
        (Annotated[np.ndarray, Tensor("uint8")], "UINT8", [-1]),
        (Annotated[np.ndarray, Tensor(">i4", (1,))], "INT32", [-1, 1]),
    ],
)
def test_it_is_one_tensor(annotation: Any, datatype: str, shape: list[int]) -> None:
    expected = {"name": "input", "datatype": datatype, "shape": shape}
    assert inputs_of(annotation) == [expected]


@pytest.mark.parametrize(
    "annotation",
    [
        list[Any],
        list[list[float]],
        list[float | None],
        list[dict[str, int]],
        list[tuple[int, str]],
        list[Literal["a", 1]],
        list[Tagged],
        list[Empty],
        list[Person | None],
        list[Annotated[list[float], Meta(max_length=4)]],
        list[list[Person]],
    ],
)
def test_what_has_no_other_form_is_a_document_for_each_instance(annotation: Any) -> None:
    expected = {"name": "input", "datatype": "BYTES", "shape": [-1], "parameters": DOCUMENTS}
    assert inputs_of(annotation) == [expected]


def test_a_struct_is_a_tensor_for_each_field() -> None:
    assert inputs_of(list[Person]) == [
        {"name": "name", "datatype": "BYTES", "shape": [-1]},
        {"name": "age", "datatype": "INT64", "shape": [-1]},
        {"name": "sizes", "datatype": "FP64", "shape": [-1, 2]},
        {
            "name": "tags",
            "datatype": "BYTES",
            "shape": [-1],
            "parameters": {"optional": True, **DOCUMENTS},
        },
    ]


@pytest.mark.parametrize(
    ("annotation", "names"),
    [
        (list[Renamed], ["firstName"]),
        (list[Point], ["x", "y"]),
        (list[Place], ["street", "number"]),
    ],
)
def test_so_are_other_classes_with_fields(annotation: Any, names: list[str]) -> None:
    assert [found["name"] for found in inputs_of(annotation)] == names
