"""Contracts of small models, which between them have each kind of input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from modelyard.core.arrays import Tensor
from modelyard.core.columns import Columns
from modelyard.core.contract import Contract
from tests.unit.contracts import contract_for


class Flower(msgspec.Struct):
    """An instance with fields, of which one may be missing."""

    petal_cm: Annotated[float, msgspec.Meta(ge=0)]
    count: int
    colour: Literal["white", "violet"] = "white"
    photo: bytes = b""
    notes: dict[str, list[int]] = {}


class Table(Columns):
    """Instances in columns."""

    length: Annotated[np.ndarray, Tensor("float32", ())]
    code: Annotated[np.ndarray, Tensor("int64", (2,))]


_TYPES: tuple[Any, ...] = (
    list[list[float]],
    list[int],
    list[bool],
    list[str],
    list[bytes],
    list[dict[str, Any]],
    list[Flower],
    Annotated[np.ndarray, Tensor("float32", (2,))],
    Annotated[np.ndarray, Tensor("uint8", (2, 2))],
    Annotated[np.ndarray, Tensor("int64", ())],
    Table,
)

CONTRACTS: tuple[Contract, ...] = tuple(map(contract_for, _TYPES))
