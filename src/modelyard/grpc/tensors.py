"""Tensors between gRPC's messages and the form ``v2`` of requests and answers (``core/v2.py``).

A tensor that comes raw stays as it is, for the runner. One that comes in ``contents`` is written as
such bytes here, so the runner knows one binary form, and an answer from the cache serves both.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from modelyard.core.datatypes import DATATYPES, Datatype
from modelyard.core.errors import InvalidInput
from modelyard.core.tensor_data import join_bytes, split_bytes
from modelyard.core.tensors import known_datatype
from modelyard.core.v2 import pack, question_head

_FIELDS = {
    **{"BOOL": "bool_contents", "BYTES": "bytes_contents"},
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{"INT64": "int64_contents", "UINT64": "uint64_contents"},
    **{"FP32": "fp32_contents", "FP64": "fp64_contents"},
}
"""Fields of ``InferTensorContents``. A datatype that is not here travels raw."""


class _Output(msgspec.Struct, gc=False):
    """One of ``outputs`` in an answer of a runner; all are binary."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int]


_decode_outputs = msgspec.json.Decoder(list[_Output]).decode


def values_of(parameters: Any) -> dict[str, Any]:
    """Return a map of ``InferParameter`` as what its values are."""
    found = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[key] = None if choice is None else getattr(parameter, choice)
    return found


def read_tensors(request: Any) -> msgspec.Raw:
    """Return the tensors of a ``ModelInferRequest``, and which outputs it wants, for a runner.

    Raises:
        InvalidInput: They are not what the protocol says.
    """
    inputs, pieces = [], []
    for tensor, data, place in _with_bytes(request):
        parameters = values_of(tensor.parameters) if tensor.parameters else {}
        parameters["binary_data_size"] = len(data)
        shape = list(tensor.shape)
        if any(length < 0 for length in shape):
            raise InvalidInput(f"a shape has no negative lengths, there is {shape}", where=place)
        inputs.append(
            {
                "name": tensor.name,
                "shape": shape,
                "datatype": tensor.datatype,
                "parameters": parameters,
            }
        )
        pieces.append(data)
    outputs = [
        {"name": output.name, "parameters": _without_binary(values_of(output.parameters))}
        for output in request.outputs
    ]
    head = question_head(
        msgspec.Raw(msgspec.json.encode(inputs)),
        msgspec.Raw(msgspec.json.encode(outputs or None)),
        is_binary=True,
    )
    return msgspec.Raw(pack(head, pieces[0] if len(pieces) == 1 else b"".join(pieces)))


def _without_binary(parameters: dict[str, Any]) -> dict[str, Any]:
    """Leave out what asks for JSON or bytes: here are neither."""
    parameters.pop("binary_data", None)
    return parameters


def _with_bytes(request: Any) -> Iterator[tuple[Any, bytes, str]]:
    """Give each input with its bytes and its place in the request."""
    raw, inputs = request.raw_input_contents, request.inputs
    if raw and len(raw) != len(inputs):
        raise InvalidInput(
            f"there are {len(inputs)} inputs and {len(raw)} raw_input_contents",
            where="$.raw_input_contents",
        )
    for number, tensor in enumerate(inputs):
        place = f"$.inputs[{number}]"
        if not raw:
            yield tensor, _to_bytes(tensor, place), place
        elif tensor.HasField("contents") and tensor.contents.ListFields():
            raise InvalidInput("contents and raw_input_contents exclude each other", where=place)
        else:
            yield tensor, raw[number], place


def _to_bytes(tensor: Any, place: str) -> bytes:
    """Return what ``contents`` holds as the bytes of a binary tensor."""
    datatype, field = known_datatype(tensor.datatype, place), _FIELDS.get(tensor.datatype)
    if field is None:
        raise InvalidInput(
            f"{datatype.name} has no field in contents: send it in raw_input_contents", where=place
        )
    others = {found.name for found, _ in tensor.contents.ListFields()} - {field}
    if others:
        raise InvalidInput(
            f"the elements of {datatype.name} are in {field}, there is {others.pop()}", where=place
        )
    elements = getattr(tensor.contents, field)
    if datatype.kind == "bytes":
        return join_bytes(elements)
    if datatype.kind == "bool":
        return bytes(elements)
    try:
        return array(datatype.code, elements).tobytes()
    except OverflowError:
        raise InvalidInput(
            f"an element is out of the range of {datatype.name}", where=place
        ) from None


def write_tensors(response: Any, head: bytes, tail: bytes, *, is_raw: bool) -> None:
    """Put the outputs of a runner's answer into a ``ModelInferResponse``.

    ``is_raw``: whether the request was; else the elements are in ``contents``, if all have a field.
    """
    outputs = _decode_outputs(head)
    if not all(output.datatype in _FIELDS for output in outputs):
        is_raw = True
    at = 0
    for output in outputs:
        tensor = response.outputs.add(
            name=output.name, datatype=output.datatype, shape=output.shape
        )
        begin, at = at, at + output.parameters["binary_data_size"]
        data = tail[begin:at]
        if is_raw:
            response.raw_output_contents.append(data)
        else:
            elements = getattr(tensor.contents, _FIELDS[output.datatype])
            elements.extend(_elements(data, DATATYPES[output.datatype]))


def _elements(data: bytes, datatype: Datatype) -> Iterable[Any]:
    if datatype.kind == "bool":
        return map(bool, data)
    if datatype.kind != "bytes":
        return array(datatype.code, data)
    return split_bytes(data) or ()
