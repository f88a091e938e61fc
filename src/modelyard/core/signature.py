"""``[signature]`` of ``model.toml``: what an artefact takes and gives, where it does not say so."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Dtype = Literal[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "str",
]
Gives = Literal["own", "labels", "probabilities", "both"]


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output. ``shape`` is that of one instance; ``dtype`` is numpy's name, or str."""

    dtype: Dtype
    name: str = ""
    shape: tuple[Annotated[int, Meta(ge=1, lt=1 << 31)], ...] = ()


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the artefact of a ``runtime`` takes and gives, where it does not say so itself."""

    inputs: Annotated[
        list[Field],
        Meta(
            description='Inputs, each as `{name = "x", dtype = "float32", shape = [4]}`: the shape '
            'is that of one instance; `dtype` is one of numpy\'s, or `"str"`.'
        ),
    ] = []
    outputs: Annotated[list[Field], Meta(description="Outputs, written as the inputs are.")] = []
    gives: Annotated[
        Gives,
        Meta(
            description="What a classifier answers: its labels, the probabilities of all classes, "
            'or both. `"own"` is what its library\'s `predict` gives.'
        ),
    ] = "own"
    example: Annotated[
        list[Any],
        Meta(
            description="Instances as a caller would send them. Without it one is made of zeros "
            "and empty texts."
        ),
    ] = []
