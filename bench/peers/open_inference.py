"""Requests of the Open Inference Protocol V2: the same bytes for every system that speaks it.

Over REST a tensor is JSON or, in binary, behind the JSON. Over gRPC it is raw, as Triton's client
sends it.
"""

from __future__ import annotations

import json
from typing import Any

from bench.peers.subjects import IMAGE_SHAPE, SCORES
from bench.peers.system import Call

LENGTH = "Inference-Header-Content-Length"
INPUT, OUTPUT = "input", "output"


def rest_call(model: str, instance: Any, form: str) -> Call:
    """Give a request with one instance, as ``json`` or ``binary``."""
    path = f"/v2/models/{model}/infer"
    tensor: dict[str, Any] = {
        "name": INPUT,
        "shape": [1, *shape_of(model)],
        "datatype": datatype_of(model),
    }
    if form == "json":
        tensor["data"] = _flat(instance)
        return Call(path, json.dumps({"inputs": [tensor]}).encode(), _read_json)
    content = raw_tensor(model, instance)
    tensor["parameters"] = {"binary_data_size": len(content)}
    head = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    start = json.dumps(head).encode()
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(start))}
    return Call(path, start + content, lambda answer: read_raw(model, answer), headers)


def shape_of(model: str) -> tuple[int, ...]:
    """Give the shape of one instance."""
    return IMAGE_SHAPE if model == "image" else (4,)


def datatype_of(model: str) -> str:
    """Give the datatype of an instance's elements."""
    return "FP32" if model == "image" else "FP64"


def raw_tensor(model: str, instance: Any) -> bytes:
    """Give the bytes of a tensor with one instance."""
    import numpy as np

    dtype = "<f4" if model == "image" else "<f8"
    return bytes(np.asarray(instance, dtype=dtype).tobytes())


def read_raw(model: str, answer: bytes) -> Any:
    """Give the prediction whose bytes are the last of an answer."""
    import numpy as np

    if model == "image":
        return np.frombuffer(answer[-4 * SCORES :], dtype="<f4").tolist()
    if model == "iris":
        return int(np.frombuffer(answer[-8:], dtype="<i8")[0])
    return np.frombuffer(answer[-4 * 8 :], dtype="<f8").tolist()


def _read_json(answer: bytes) -> Any:
    values = json.loads(answer)["outputs"][0]["data"]
    return values[0] if len(values) == 1 else values


def _flat(values: Any) -> list[float]:
    if not isinstance(values, list):
        return [values]
    return [number for value in values for number in _flat(value)]
