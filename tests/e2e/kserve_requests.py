"""What the tests with KServe's clients ask, and of which server. Importable in the environment of
`make test-kserve` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from tests.support.identities import NUMERIC, write_identities, write_others
from tests.support.server import Server, wait_until

DATATYPES = [*NUMERIC, "BYTES"]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve the models of ``identities``, with gRPC, written to ``folder``."""
    models = write_others(write_identities(folder))
    with Server(models, settings={"MODELYARD_GRPC_PORT": "0"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def rest_client(protocol: str) -> Any:
    """Give a client that does not read the certificates of authorities: twice, for some 0.3 s."""
    return InferenceRESTClient(RESTConfig(protocol=protocol, verify=False))


def values(datatype: str) -> Any:
    """Give an array of pairs, the extremes of the datatype among them."""
    if datatype == "BYTES":
        return np.array([["", "né"], ['"\\\n', "a" * 300], ["x", "y"]], dtype=object)
    dtype = np.dtype(NUMERIC[datatype])
    if dtype.kind == "b":
        cells = [True, False]
    else:
        range_: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        cells = [range_.min, range_.max]
    return np.array([cells, [0, 1], [1, 0]], dtype=dtype)


def input_of(name: str, datatype: str, array: Any, *, form: str = "binary") -> Any:
    """Give a tensor: ``binary``, ``flat``, ``nested``, or the ``array`` itself, which the client
    sends in JSON over REST and raw over gRPC.
    """
    tensor = InferInput(name, list(array.shape), datatype)
    if form in {"binary", "flat"}:
        tensor.set_data_from_numpy(array, binary_data=form == "binary")
    else:
        tensor.data = array if form == "array" else array.tolist()
    return tensor


def request_of(model: str, inputs: list[Any], **more: Any) -> Any:
    return InferRequest(model, inputs, **more)


def name_of(datatype: str) -> str:
    """Give the name of the tensors of a datatype's model; that of BYTES has named none."""
    return "output" if datatype == "BYTES" else "x"


def identity(datatype: str, *, form: str, **more: Any) -> Any:
    """Give a request to the model of a datatype."""
    tensor = input_of(name_of(datatype), datatype, values(datatype), form=form)
    return request_of(datatype.lower(), [tensor], **more)


A, B = np.array([[1.5, -2]], "f4"), np.array([[1, 2]])


def numbers(*, forms: tuple[str, str] = ("binary", "binary")) -> list[Any]:
    """Give the inputs of ``sums``."""
    return [input_of("b", "INT64", B, form=forms[0]), input_of("a", "FP32", A, form=forms[1])]


def people(name: str, age: int = 0) -> list[Any]:
    """Give the inputs of ``people``."""
    return [
        input_of("name", "BYTES", np.array([name], dtype=object)),
        input_of("age", "INT64", np.array([age])),
    ]


def same(output: Any, expected: Any) -> bool:
    """Whether an output holds an array; texts may have come as bytes."""
    found = output.as_numpy()
    if expected.dtype == object:
        texts = [one.decode() if isinstance(one, bytes) else one for one in found.reshape(-1)]
        return found.shape == expected.shape and texts == list(expected.reshape(-1))
    is_float = expected.dtype.kind == "f"
    return bool(
        found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=is_float)
    )
