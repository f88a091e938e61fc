"""Requests of tensors, written by hand as a gateway would give them to a runner."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelyard.core.contract import Contract
from modelyard.core.v2 import pack, unpack

Row = Annotated[list[float], Meta(min_length=4, max_length=4)]


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, Meta(ge=0)]
    sizes: tuple[float, float]
    tags: list[str] = []


def question(
    *inputs: dict[str, Any], tail: bytes = b"", outputs: Any = None, binary: bool = False
) -> bytes:
    """Give a request with these inputs."""
    return pack(json.dumps([inputs, outputs, binary]).encode(), tail)


def tensor(
    data: Any, datatype: str, shape: list[int], *, name: str = "input", **more: Any
) -> dict[str, Any]:
    """Give an input whose data are JSON."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **more}


def binary(size: int, datatype: str, shape: list[int], *, name: str = "input") -> dict[str, Any]:
    """Give an input whose data follow."""
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def ask(contract: Contract, raw: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Send a request through a model that answers what it is asked; gives outputs and bytes."""
    instances, wanted = contract.decode_tensors(raw)
    problem = contract.check_predictions(instances, count=len(instances))
    assert problem is None
    head, tail = unpack(contract.encode_tensors(contract.join([instances]), wanted))
    outputs: list[dict[str, Any]] = json.loads(bytes(head))
    return outputs, bytes(tail)
