"""Triton's own client against a server, unchanged: what it sends is understood and answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.support.identities import NUMERIC, write_identities, write_others
from tests.support.server import Server, wait_until

DATATYPES = [*NUMERIC, "BYTES"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    with Server(write_others(write_identities(folder))) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(address(server)) as client:
        yield client


def address(server: Server) -> str:
    return server.url.removeprefix("http://")


def values(datatype: str, *, rows: int = 3) -> Any:
    """Give an array of pairs, the extremes of the datatype among them."""
    if datatype == "BYTES":
        return np.array([["", "né"], ['"\\\n', "a" * 300], ["x", "y"]], dtype=object)[:rows]
    dtype = np.dtype(NUMERIC[datatype])
    if dtype.kind == "b":
        cells = [True, False]
    else:
        range_: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        cells = [range_.min, range_.max]
    return np.array([cells, [0, 1], [1, 0]], dtype=dtype)[:rows]


def input_of(name: str, datatype: str, array: Any, *, is_binary: bool = True) -> Any:
    tensor = triton.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    return tensor


def same(found: Any, expected: Any) -> bool:
    if expected.dtype == object:
        texts = [one.decode() if isinstance(one, bytes) else one for one in found.reshape(-1)]
        return found.shape == expected.shape and texts == list(expected.reshape(-1))
    return bool(found.dtype == expected.dtype and np.array_equal(found, expected))


@pytest.mark.parametrize("is_binary_out", [True, False, None])
@pytest.mark.parametrize("is_binary_in", [True, False])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_each_datatype_comes_back(
    client: Any, datatype: str, is_binary_in: bool, is_binary_out: bool | None
) -> None:
    array = values(datatype)
    given = input_of("x", datatype, array, is_binary=is_binary_in)
    wanted = (
        None
        if is_binary_out is None
        else [triton.InferRequestedOutput("x", binary_data=is_binary_out)]
    )
    if datatype == "FP16" and not (is_binary_in and is_binary_out is not False):
        with pytest.raises(InferenceServerException, match=r"FP16.* no form in JSON") as caught:
            client.infer("fp16", [given], outputs=wanted)
        assert caught.value.status() == "422"
        return
    result = client.infer(datatype.lower(), [given], outputs=wanted)
    (output,) = result.get_response()["outputs"]
    assert output["datatype"] == datatype
    assert output["shape"] == [3, 2]
    assert ("data" in output) == (is_binary_out is False)
    assert same(result.as_numpy(output["name"]), array)


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "FP16"])
def test_data_may_be_flat_or_nested(server: Server, datatype: str) -> None:
    data = values(datatype).tolist()
    for written in (data, [cell for row in data for cell in row]):
        tensor = {"name": "x", "datatype": datatype, "shape": [3, 2], "data": written}
        answer = server.http.post(
            f"/v2/models/{datatype.lower()}/infer", json={"inputs": [tensor]}
        ).json()
        assert answer["outputs"][0]["data"] == [cell for row in data for cell in row]


async def test_its_asyncio_client_is_answered_as_well(server: Server) -> None:
    async with triton_aio.InferenceServerClient(address(server)) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata("fp32"))["name"] == "fp32"
        array = values("FP32")
        result = await client.infer("fp32", [input_of("x", "FP32", array)], request_id="7")
        assert result.get_response()["id"] == "7"
        assert same(result.as_numpy("x"), array)
        with pytest.raises(InferenceServerException, match="no model has this name"):
            await client.infer("nothing", [input_of("x", "FP32", array)])


A, B = np.array([[1.5, -2]], "f4"), np.array([[1, 2]])


def numbers(*, is_binary: tuple[bool, bool] = (True, True)) -> list[Any]:
    return [
        input_of("b", "INT64", B, is_binary=is_binary[0]),
        input_of("a", "FP32", A, is_binary=is_binary[1]),
    ]


@pytest.mark.parametrize("binary", [(True, True), (True, False), (False, True), (False, False)])
def test_inputs_and_outputs_may_be_mixed(client: Any, binary: tuple[bool, bool]) -> None:
    wanted = [
        triton.InferRequestedOutput("is_more", binary_data=binary[0]),
        triton.InferRequestedOutput("sum", binary_data=binary[1]),
    ]
    result = client.infer(
        "sums", numbers(is_binary=binary), model_version="1", outputs=wanted, request_id='"1"'
    )
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("sums", "1", '"1"')
    assert [output["name"] for output in answer["outputs"]] == ["is_more", "sum"]
    assert result.as_numpy("sum").tolist() == [[2.5, 0]]
    assert result.as_numpy("is_more").tolist() == [[True, False]]


def test_only_those_outputs_come_that_are_asked_for(client: Any) -> None:
    result = client.infer("sums", numbers(), outputs=[triton.InferRequestedOutput("is_more")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["is_more"]
    everything = client.infer("sums", numbers()).get_response()["outputs"]
    assert [output["name"] for output in everything] == ["sum", "is_more"]


def test_a_version_is_asked_for_or_the_default_one_answers(client: Any) -> None:
    for version, sign in (("1", 1), ("2", -1), ("", -1)):
        result = client.infer("sums", numbers(), model_version=version)
        assert result.get_response()["model_version"] == (version or "2")
        assert result.as_numpy("sum").tolist() == [[sign * 2.5, 0]]
    with pytest.raises(InferenceServerException, match="it has 2, 1") as caught:
        client.infer("sums", numbers(), model_version="3")
    assert caught.value.status() == "404"


@pytest.mark.parametrize("sent", ["gzip", "deflate", None])
@pytest.mark.parametrize("answered", ["gzip", "deflate", None])
@pytest.mark.parametrize("is_binary", [True, False])
def test_bodies_may_be_compressed(
    client: Any, sent: str | None, answered: str | None, is_binary: bool
) -> None:
    array = np.arange(2000, dtype="f4").reshape(-1, 2)
    wanted = [triton.InferRequestedOutput("x", binary_data=is_binary)]
    result = client.infer(
        "fp32",
        [input_of("x", "FP32", array, is_binary=is_binary)],
        outputs=wanted,
        request_compression_algorithm=sent,
        response_compression_algorithm=answered,
    )
    assert same(result.as_numpy("x"), array)


def test_structs_are_a_tensor_for_each_field(client: Any) -> None:
    name = input_of("name", "BYTES", np.array(["Ada", "Zoë"], dtype=object))
    age = input_of("age", "UINT8", np.array([36, 7], dtype="u1"))
    result = client.infer("people", [name, age])
    assert result.as_numpy("text").tolist() == [b"Hello Ada", "Hello Zoë".encode()]
    assert result.as_numpy("letters").tolist() == [3, 3]
    assert result.as_numpy("pieces").tolist() == [b'["36"]', b'["7"]']


def test_metadata_and_configuration_agree(client: Any) -> None:
    assert client.get_server_metadata()["name"] == "modelyard"
    metadata, config = client.get_model_metadata("sums"), client.get_model_config("sums")
    assert metadata["versions"] == ["2", "1"]
    assert metadata["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT64", "shape": [-1, 2]},
    ]
    assert config["max_batch_size"] > 0
    for side in ("input", "output"):
        assert config[side] == [
            {
                "name": tensor["name"],
                "data_type": f"TYPE_{tensor['datatype']}",
                "dims": tensor["shape"][1:],
            }
            for tensor in metadata[f"{side}s"]
        ]
    optional = {"name": "age", "data_type": "TYPE_INT64", "dims": [], "optional": True}
    assert client.get_model_config("people")["input"][1] == optional
    assert client.get_model_metadata("people", "1")["outputs"][2]["parameters"] == {
        "content_type": "application/json"
    }


def test_it_tells_what_is_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "1")
    assert not client.is_model_ready("sums", "3")
    assert not client.is_model_ready("nothing")
    index = client.get_model_repository_index()
    assert {"name": "sums", "version": "2", "state": "READY", "reason": ""} in index
    assert len(index) == len(DATATYPES) + 3


def test_statistics_count_what_ran(client: Any) -> None:
    def read() -> Any:
        (found,) = client.get_inference_statistics("sums", "1")["model_stats"]
        return found

    before = read()
    for _ in range(3):
        client.infer("sums", numbers(), model_version="1")
    after = read()
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 3
    for what in ("success", "queue", "compute_infer"):
        was, now = (found["inference_stats"][what] for found in (before, after))
        assert now["count"] - was["count"] == 3
        assert now["ns"] > was["ns"]
    versions = client.get_inference_statistics("sums")["model_stats"]
    assert [found["version"] for found in versions] == ["2", "1"]
    assert len(client.get_inference_statistics()["model_stats"]) == len(DATATYPES) + 3


def test_identical_inferences_are_answered_from_the_cache_whatever_their_ids(
    client: Any, server: Server
) -> None:
    given = [input_of("a", "FP32", A + 100), input_of("b", "INT64", B)]
    hits = server.metric("modelyard_cache_requests_total", model="sums", use="hit")
    for number in ("1", "2", "3"):
        answer = client.infer("sums", given, request_id=number, timeout=int(number) * 1_000_000)
        assert answer.get_response()["id"] == number
        assert answer.as_numpy("sum").tolist() == [[-102.5, -100]]
    assert server.metric("modelyard_cache_requests_total", model="sums", use="hit") - hits == 2


def people(name: str, age: int = 0) -> list[Any]:
    return [
        input_of("name", "BYTES", np.array([name], dtype=object)),
        input_of("age", "INT64", np.array([age])),
    ]


@pytest.mark.parametrize(
    ("model", "inputs", "status", "problem"),
    [
        ("nothing", numbers(), "404", "no model has this name"),
        ("sums", numbers()[:1], "422", "input 'a' is missing"),
        ("sums", [*numbers(), *numbers()], "422", "input 'b' is there twice"),
        ("sums", [input_of("c", "FP32", A)], "422", "no input 'c'; it takes a, b"),
        ("fp32", [input_of("x", "FP64", values("FP64"))], "422", "FP64, the model takes FP32"),
        ("fp32", [input_of("x", "FP32", values("FP32")[:, :1])], "422", "has shape \\[3, 1\\]"),
        ("people", people("nobody"), "422", "nobody is no person \\(at instances\\[0\\]\\)"),
        ("people", people("broken"), "502", "the model raised RuntimeError"),
    ],
)
def test_errors_are_said_as_the_protocol_has_them(
    client: Any, model: str, inputs: list[Any], status: str, problem: str
) -> None:
    with pytest.raises(InferenceServerException, match=problem) as caught:
        client.infer(model, inputs)
    assert caught.value.status() == status


def test_a_timeout_is_a_deadline(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no answer by the deadline") as caught:
        client.infer("people", people("late", 300), timeout=50_000)
    assert caught.value.status() == "504"


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException) as caught:
            change("nothing")
        assert caught.value.status() == "404"
    for other in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"x"}}):
        with pytest.raises(InferenceServerException, match="as its folder is"):
            client.load_model("sums", **other)
    client.unload_model("sums")
    gone = {"name": "sums", "state": "UNAVAILABLE", "reason": "unloaded"}
    index = [one for one in client.get_model_repository_index() if one["name"] == "sums"]
    assert index == [{**gone, "version": version} for version in ("1", "2")]
    assert not client.is_model_ready("sums")
    client.load_model("sums")
    assert client.is_model_ready("sums")


def test_a_request_may_have_more_instances_than_a_batch(client: Any) -> None:
    size = client.get_model_config("fp32")["max_batch_size"]
    array = np.arange(2 * (2 * size + 1), dtype="f4").reshape(-1, 2)
    before = client.get_inference_statistics("fp32")["model_stats"][0]["execution_count"]
    assert same(client.infer("fp32", [input_of("x", "FP32", array)]).as_numpy("x"), array)
    after = client.get_inference_statistics("fp32")["model_stats"][0]["execution_count"]
    assert after - before == 3
