"""Models of arrays: what they return in another dtype, and what they are sent by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from modelyard.arrays import ext_hook
from tests.e2e.test_msgpack import MSGPACK, pack
from tests.e2e.test_odd_models import write
from tests.support.server import Server, wait_until

WIDE = """\
from typing import Annotated
import numpy as np
from modelyard import Columns, Model, Tensor

Wide = Annotated[np.ndarray, Tensor("float64")]
Narrow = Annotated[np.ndarray, Tensor("float32")]

class Found(Columns):
    value: Narrow

class Served(Model):
    def predict(self, instances: Wide) -> GIVES:
        return RETURNED
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Models that declare float32 and return float64; one of them returns it as a column."""
    folder = tmp_path_factory.mktemp("models")
    array = WIDE.replace("GIVES", "Narrow").replace("RETURNED", "instances")
    column = WIDE.replace("GIVES", "Found").replace("RETURNED", "Found(value=instances)")
    with Server(write(folder / "array", array), write(folder / "column", column)) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def in_json(server: Server, name: str, numbers: list[float]) -> httpx.Response:
    return server.predict(name, numbers)


def in_msgpack(server: Server, name: str, numbers: list[Any]) -> httpx.Response:
    return server.http.post("/predict", content=pack(name, numbers), headers=MSGPACK)


def in_tensors(server: Server, name: str, numbers: list[float]) -> httpx.Response:
    tensor = {"name": "input", "shape": [len(numbers)], "datatype": "FP64", "data": numbers}
    return server.http.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})


def numbers_of(answer: httpx.Response) -> list[float]:
    """Give the numbers in an answer of any form."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/msgpack":
        found: Any = msgspec.msgpack.decode(answer.content, ext_hook=ext_hook)
    else:
        found = answer.json()
    found = found["outputs"][0]["data"] if "outputs" in found else found["prediction"]
    if isinstance(found, dict):
        found = found["value"]
    return [float(one["value"] if isinstance(one, dict) else one) for one in found]


FORMS = [in_json, in_msgpack, in_tensors]


@pytest.mark.parametrize("ask", FORMS)
@pytest.mark.parametrize("name", ["array", "column"])
def test_a_number_beyond_the_declared_dtype_is_the_model_s_failure_in_every_form(
    server: Server, name: str, ask: Any
) -> None:
    failed = ask(server, name, [1.0, 1e300])
    text = failed.text
    assert failed.status_code == 502, text
    assert "returned 1e+300 of float64, which float32 cannot represent" in text
    assert "one per instance" not in text


@pytest.mark.parametrize("ask", FORMS)
@pytest.mark.parametrize("name", ["array", "column"])
def test_predictions_are_rounded_to_the_declared_dtype_in_every_form(
    server: Server, name: str, ask: Any
) -> None:
    assert numbers_of(ask(server, name, [0.1, 2.0])) == [float(np.float32(0.1)), 2.0]


OF_ANOTHER_KIND = WIDE.replace("GIVES", "Annotated[np.ndarray, Tensor('int64')]")


def test_a_dtype_of_another_kind_gets_no_advice_about_the_number_of_predictions(
    tmp_path: Path,
) -> None:
    with Server(write(tmp_path / "odd", OF_ANOTHER_KIND.replace("RETURNED", "instances"))) as odd:
        failed = odd.predict("odd", [1.5])
    assert failed.status_code == 502
    assert failed.json()["detail"] == "Served.predict returned float64 where int64 is expected"


@pytest.mark.parametrize(
    ("sent", "advice"),
    [
        ([np.zeros(2), np.zeros(2)], "send modelyard.arrays.pack_array(numpy.stack(arrays))"),
        ([np.zeros(2).tobytes()], "send modelyard.arrays.pack_array(numpy.stack(arrays))"),
        ([msgspec.msgpack.Ext(78, b"")], "extension type 78 is no array: those are 77"),
    ],
)
def test_a_list_of_arrays_is_told_to_be_one_array(server: Server, sent: Any, advice: str) -> None:
    refused = in_msgpack(server, "array", sent)
    assert refused.status_code == 422
    assert advice in refused.json()["detail"]
    assert refused.json()["where"] == "$.input_data[0]"


def test_a_model_of_lists_asks_for_lists(tmp_path: Path) -> None:
    code = WIDE.replace("Wide)", "list[float])").replace("GIVES", "list[float]")
    with Server(write(tmp_path / "lists", code.replace("RETURNED", "instances"))) as lists:
        refused = in_msgpack(lists, "lists", [np.zeros(2)])
    assert "takes no numpy array here: send array.tolist()" in refused.json()["detail"]
