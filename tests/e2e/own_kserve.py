"""KServe's own clients against a server by V2, over REST and gRPC, unchanged: `make test-kserve`
runs this in an environment of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferInput
from kserve.errors import InvalidInput
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput

from tests.e2e.kserve_requests import (
    DATATYPES,
    A,
    B,
    identity,
    input_of,
    name_of,
    numbers,
    people,
    request_of,
    rest_client,
    same,
    serving,
    values,
)
from tests.support.identities import NUMERIC
from tests.support.server import Server, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.fixture
async def rest() -> AsyncIterator[Any]:
    async with rest_client("v2") as client:
        yield client


@pytest.fixture
async def v1() -> AsyncIterator[Any]:
    async with rest_client("v1") as client:
        yield client


@pytest.fixture
async def rpc(server: Server) -> AsyncIterator[Any]:
    async with InferenceGRPCClient(server.grpc_address) as client:
        yield client


@pytest.fixture
def stub(server: Server) -> Iterator[Any]:
    """Give the calls that KServe's protocol has and its client has not."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield GRPCInferenceServiceStub(channel)


@pytest.mark.parametrize("is_binary_out", [True, False])
@pytest.mark.parametrize("form", ["flat", "nested", "array", "binary"])
@pytest.mark.parametrize("datatype", DATATYPES)
async def test_each_datatype_comes_back_by_rest(
    rest: Any, server: Server, datatype: str, form: str, is_binary_out: bool
) -> None:
    request = identity(datatype, form=form, parameters={"binary_data_output": is_binary_out})
    told: dict[str, str] = {}

    async def infer() -> Any:
        return await rest.infer(server.url, request, datatype.lower(), response_headers=told)

    if datatype == "FP16" and form != "binary":
        with pytest.raises(InvalidInput, match="FP16 data via JSON is not supported"):
            await infer()  # its client does not even send that
        return
    if datatype == "FP16" and not is_binary_out:
        with pytest.raises(httpx.HTTPStatusError, match=r"FP16.* no form in JSON") as caught:
            await infer()
        assert caught.value.response.status_code == 422
        return
    (output,) = (await infer()).outputs
    assert (output.name, output.datatype, output.shape) == (name_of(datatype), datatype, [3, 2])
    assert ("inference-header-content-length" in told) == is_binary_out
    assert same(output, values(datatype))


async def test_fp16_in_json_is_refused_by_the_server_too(rest: Any, server: Server) -> None:
    tensor = {"name": "x", "datatype": "FP16", "shape": [1, 2], "data": [1.5, 2]}
    with pytest.raises(httpx.HTTPStatusError, match=r"FP16.* no form in JSON") as caught:
        await rest.infer(server.url, {"inputs": [tensor]}, "fp16")
    assert caught.value.response.status_code == 422


@pytest.mark.parametrize("form", ["flat", "binary", "array"])
@pytest.mark.parametrize("datatype", DATATYPES)
async def test_each_datatype_comes_back_by_grpc(rpc: Any, datatype: str, form: str) -> None:
    request = identity(datatype, form=form)
    if datatype == "FP16" and form == "flat":
        with pytest.raises(InvalidInput, match="invalid input datatype"):
            await rpc.infer(request)  # its client does not even send that
        return
    (output,) = (await rpc.infer(request)).outputs
    assert (output.name, output.datatype, output.shape) == (name_of(datatype), datatype, [3, 2])
    assert bool(output.data) == (form == "flat")  # answered in the form of the request
    assert same(output, values(datatype))


def test_fp16_in_contents_is_refused_by_the_server_too(stub: Any) -> None:
    request = pb.ModelInferRequest(model_name="fp16")
    tensor = request.inputs.add(name="x", datatype="FP16", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1.5, 2])
    with pytest.raises(grpc.RpcError, match="FP16 has no field in contents") as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
async def test_nan_and_infinity_come_back(
    rest: Any, rpc: Any, server: Server, datatype: str
) -> None:
    array = np.array([[np.nan, np.inf], [-np.inf, -0.0]], NUMERIC[datatype])
    binary = {"parameters": {"binary_data_output": True}}
    request = request_of(datatype.lower(), [input_of("x", datatype, array)], **binary)
    assert same((await rest.infer(server.url, request, datatype.lower())).outputs[0], array)
    for form in ("binary",) if datatype == "FP16" else ("binary", "flat"):
        request = request_of(datatype.lower(), [input_of("x", datatype, array, form=form)])
        assert same((await rpc.infer(request)).outputs[0], array)


async def test_large_tensors_come_back(rest: Any, rpc: Any, server: Server) -> None:
    array = np.arange(400_000, dtype="f4").reshape(-1, 2)
    for form in ("binary", "flat"):
        binary = {"binary_data_output": form == "binary"}
        inputs = [input_of("x", "FP32", array, form=form)]
        request = request_of("fp32", inputs, parameters=binary)
        assert same((await rest.infer(server.url, request, "fp32")).outputs[0], array)
        assert same((await rpc.infer(request_of("fp32", inputs))).outputs[0], array)


@pytest.mark.parametrize("out", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("forms", [("binary", "flat"), ("nested", "binary"), ("flat", "nested")])
async def test_inputs_and_outputs_may_be_mixed(
    rest: Any, server: Server, forms: tuple[str, str], out: tuple[bool, bool]
) -> None:
    wanted = [
        RequestedOutput(name, {"binary_data": is_binary})
        for name, is_binary in zip(("is_more", "sum"), out, strict=True)
    ]
    request = request_of("sums", numbers(forms=forms), request_id='"1"', request_outputs=wanted)
    answer = await rest.infer(server.url, request, "sums")
    assert (answer.model_name, answer.id) == ("sums", '"1"')
    assert [output.name for output in answer.outputs] == ["is_more", "sum"]
    assert answer.get_output_by_name("sum").as_numpy().tolist() == [[-2.5, 0]]
    assert answer.get_output_by_name("is_more").as_numpy().tolist() == [[True, False]]


@pytest.mark.parametrize("forms", [("binary", "binary"), ("flat", "flat")])
async def test_grpc_has_two_inputs_and_the_outputs_that_are_asked_for(
    rpc: Any, forms: tuple[str, str]
) -> None:
    wanted = [RequestedOutput("is_more"), RequestedOutput("sum")]
    answer = await rpc.infer(
        request_of("sums", numbers(forms=forms), request_id='"1"', request_outputs=wanted)
    )
    assert (answer.model_name, answer.model_version, answer.id) == ("sums", "2", '"1"')
    assert [output.name for output in answer.outputs] == ["is_more", "sum"]
    assert answer.get_output_by_name("sum").as_numpy().tolist() == [[-2.5, 0]]
    assert answer.get_output_by_name("is_more").as_numpy().tolist() == [[True, False]]


async def test_raw_inputs_and_others_are_not_mixed_in_a_message(rpc: Any) -> None:
    with pytest.raises(grpc.RpcError, match="2 inputs and 1 raw_input_contents") as caught:
        await rpc.infer(request_of("sums", numbers(forms=("binary", "flat"))))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_only_those_outputs_come_that_are_asked_for(
    rest: Any, rpc: Any, server: Server
) -> None:
    for wanted in (["is_more"], None):
        outputs = wanted and [RequestedOutput(name) for name in wanted]
        request = request_of("sums", numbers(), request_outputs=outputs)
        for answer in (await rest.infer(server.url, request, "sums"), await rpc.infer(request)):
            assert [output.name for output in answer.outputs] == (wanted or ["sum", "is_more"])


async def test_an_answer_has_the_id_of_its_request(rest: Any, rpc: Any, server: Server) -> None:
    async def ids(number: int) -> None:
        request = identity("FP32", form="binary", request_id=f"id {number}")
        assert (await rest.infer(server.url, request, "fp32")).id == f"id {number}"
        assert (await rpc.infer(request)).id == f"id {number}"

    await asyncio.gather(*(ids(number) for number in range(50)))


async def test_requests_that_differ_in_their_ids_alone_share_an_answer(
    rest: Any, server: Server
) -> None:
    inputs = [input_of("a", "FP32", A + 100), input_of("b", "INT64", B)]
    uses, ids = [], set()
    for _ in range(3):  # the client makes up an id for each
        told: dict[str, str] = {}
        request = request_of("sums", inputs)
        answer = await rest.infer(server.url, request, "sums", response_headers=told)
        assert answer.get_output_by_name("sum").as_numpy().tolist() == [[-102.5, -100]]
        uses.append(told["x-cache"])
        ids.add(answer.id)
    assert uses == ["miss", "hit", "hit"]
    assert len(ids) == 3


async def test_grpc_asks_for_a_version_or_the_default_one_answers(rpc: Any) -> None:
    for version, sign in (("1", 1), ("2", -1), (None, -1)):
        answer = await rpc.infer(request_of("sums", numbers(), model_version=version))
        assert answer.model_version == (version or "2")
        assert answer.get_output_by_name("sum").as_numpy().tolist() == [[sign * 2.5, 0]]
    with pytest.raises(grpc.RpcError, match="it has 2, 1") as caught:
        await rpc.infer(request_of("sums", numbers(), model_version="3"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_rest_asks_for_a_version_in_the_name(rest: Any, server: Server) -> None:
    """Its client leaves ``model_version`` out of what it sends, and out of what it reads."""
    for version, sign in (("1", 1), ("2", -1)):
        path = f"sums/versions/{version}"
        assert await rest.is_model_ready(server.url, path)
        answer = await rest.infer(server.url, request_of("sums", numbers()), path)
        assert answer.model_name == "sums"
        assert answer.get_output_by_name("sum").as_numpy().tolist() == [[sign * 2.5, 0]]
    assert not await rest.is_model_ready(server.url, "sums/versions/3")
    with pytest.raises(httpx.HTTPStatusError, match="it has 2, 1") as caught:
        await rest.infer(server.url, request_of("sums", numbers()), "sums/versions/3")
    assert caught.value.response.status_code == 404


async def test_an_address_may_be_given_whole(rest: Any, server: Server) -> None:
    request = request_of("sums", numbers(forms=("flat", "flat")), request_id="7")
    url = f"{server.url}/v2/models/sums/versions/1/infer"
    answer = await rest.infer(url, request, is_graph_endpoint=True)
    assert [answer[key] for key in ("model_name", "model_version", "id")] == ["sums", "1", "7"]
    assert [output["data"] for output in answer["outputs"]] == [[2.5, 0], [True, False]]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("is_binary", [True, False])
async def test_answers_may_be_compressed(
    rest: Any, server: Server, coding: str, is_binary: bool
) -> None:
    array = np.arange(2000, dtype="f4").reshape(-1, 2)
    given = [input_of("x", "FP32", array, form="binary" if is_binary else "flat")]
    request = request_of("fp32", given, parameters={"binary_data_output": is_binary})
    told: dict[str, str] = {}
    headers = {"accept-encoding": coding}
    answer = await rest.infer(server.url, request, "fp32", headers=headers, response_headers=told)
    assert told["content-encoding"] == coding
    assert same(answer.outputs[0], array)


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_messages_may_be_compressed(server: Server, algorithm: grpc.Compression) -> None:
    array = np.arange(20_000, dtype="f4").reshape(-1, 2)
    options = [("grpc.default_compression_algorithm", algorithm)]
    async with InferenceGRPCClient(server.grpc_address, channel_args=options) as client:
        answer = await client.infer(request_of("fp32", [input_of("x", "FP32", array)]))
    assert same(answer.outputs[0], array)


async def test_the_request_id_is_in_the_headers_too(rest: Any, server: Server) -> None:
    told: dict[str, str] = {}
    request, headers = identity("FP32", form="flat"), {"x-request-id": "mine"}
    await rest.infer(server.url, request, "fp32", headers=headers, response_headers=told)
    assert told["x-request-id"] == "mine"


async def test_structs_are_a_tensor_for_each_field(rest: Any, rpc: Any, server: Server) -> None:
    request = request_of("people", people("Zoë", 36))
    for answer in (await rest.infer(server.url, request, "people"), await rpc.infer(request)):
        found = {output.name: output.as_numpy().tolist() for output in answer.outputs}
        assert found["letters"] == [3]
        assert found["text"][0] in {"Hello Zoë", "Hello Zoë".encode()}
        assert found["pieces"][0] in {'["36"]', b'["36"]'}


INVALID = grpc.StatusCode.INVALID_ARGUMENT
PROBLEMS: list[Any] = [
    ("nothing", numbers(), 404, grpc.StatusCode.NOT_FOUND, "no model has this name"),
    ("sums", numbers()[:1], 422, INVALID, "input 'a' is missing"),
    ("sums", [*numbers(), *numbers()], 422, INVALID, "input 'b' is there twice"),
    ("sums", [input_of("c", "FP32", A)], 422, INVALID, "no input 'c'; it takes a, b"),
    ("fp32", [input_of("x", "FP64", values("FP64"))], 422, INVALID, "FP64, the model takes FP32"),
    ("fp32", [input_of("x", "FP32", values("FP32")[:, :1])], 422, INVALID, r"shape \[3, 1\]"),
    ("people", people("nobody"), 422, INVALID, r"no person \(at instances\[0\]\)"),
    ("people", people("broken"), 502, grpc.StatusCode.INTERNAL, "the model raised RuntimeError"),
]


@pytest.mark.parametrize(("model", "inputs", "status", "code", "problem"), PROBLEMS)
async def test_errors_are_said_as_the_protocol_has_them(
    rest: Any,
    rpc: Any,
    server: Server,
    *,
    model: str,
    inputs: list[Any],
    status: int,
    code: grpc.StatusCode,
    problem: str,
) -> None:
    request = request_of(model, inputs)
    with pytest.raises(httpx.HTTPStatusError, match=problem) as over_rest:
        await rest.infer(server.url, request, model)
    assert over_rest.value.response.status_code == status
    with pytest.raises(grpc.RpcError, match=problem) as over_grpc:
        await rpc.infer(request)
    assert over_grpc.value.code() is code


@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
async def test_a_tensor_shorter_than_its_shape_is_refused(
    rest: Any, rpc: Any, server: Server, form: str
) -> None:
    tensor = input_of("x", "FP32", values("FP32"), form=form)
    tensor.shape = [4, 2]
    request = request_of("fp32", [tensor])
    with pytest.raises(httpx.HTTPStatusError, match=r"inputs\[0\]") as caught:
        await rest.infer(server.url, request, "fp32")
    assert caught.value.response.status_code == 422
    if form != "nested":  # which messages have no form of
        with pytest.raises(grpc.RpcError, match=r"32 bytes, there are 24 \(at inputs\[0\]"):
            await rpc.infer(request)


async def test_a_datatype_that_nobody_knows_is_refused(rest: Any, server: Server) -> None:
    request = request_of("fp32", [InferInput("x", [1, 2], "BF16", [1.5, 2])])
    with pytest.raises(httpx.HTTPStatusError, match="'BF16' is no datatype") as caught:
        await rest.infer(server.url, request, "fp32")
    assert caught.value.response.status_code == 422


async def test_a_timeout_is_a_deadline(rest: Any, rpc: Any, server: Server) -> None:
    request = request_of("people", people("late", 300), parameters={"timeout": 50_000})
    with pytest.raises(httpx.HTTPStatusError, match="no answer by the deadline") as over_rest:
        await rest.infer(server.url, request, "people")
    assert over_rest.value.response.status_code == 504
    calls = [(request, {}), (request_of("people", people("late", 301)), {"timeout": 0.05})]
    for asked, options in calls:
        with pytest.raises(grpc.RpcError) as over_grpc:
            await rpc.infer(asked, **options)
        assert over_grpc.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_it_tells_what_is_ready(rest: Any, rpc: Any, server: Server) -> None:
    assert await rest.is_server_live(server.url) is True
    assert await rest.is_server_ready(server.url) is True
    assert await rest.is_model_ready(server.url, "sums") is True
    assert await rest.is_model_ready(server.url, "nothing") is False
    assert await rpc.is_server_live() is True
    assert await rpc.is_server_ready() is True
    assert await rpc.is_model_ready("sums") is True
    assert await rpc.is_model_ready("nothing") is False


def test_metadata_are_those_of_rest(stub: Any, server: Server) -> None:
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "modelyard"
    told = server.http.get("/v2/models/sums").json()
    found = stub.ModelMetadata(pb.ModelMetadataRequest(name="sums"))
    assert (found.name, list(found.versions)) == ("sums", told["versions"])
    for side in ("inputs", "outputs"):
        assert told[side] == [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            for tensor in getattr(found, side)
        ]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelMetadata(pb.ModelMetadataRequest(name="nothing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_model_that_was_unloaded_is_nothing_until_it_is_loaded(
    rest: Any, rpc: Any, v1: Any, server: Server
) -> None:
    """No client of KServe's loads or unloads."""
    server.http.post("/v2/repository/models/uint8/unload").raise_for_status()
    assert await rest.is_model_ready(server.url, "uint8") is False
    assert await rpc.is_model_ready("uint8") is False
    with pytest.raises(httpx.HTTPStatusError, match="no model has this name"):
        await v1.is_model_ready(server.url, "uint8")
    with pytest.raises(httpx.HTTPStatusError, match="no model has this name"):
        await rest.infer(server.url, identity("UINT8", form="flat"), "uint8")
    server.http.post("/v2/repository/models/uint8/load").raise_for_status()
    assert await rest.is_model_ready(server.url, "uint8") is True
    assert await rpc.is_model_ready("uint8") is True
    assert await v1.is_model_ready(server.url, "uint8") is True


def test_to_load_and_unload_by_the_messages_of_kserve_changes_nothing(stub: Any) -> None:
    """Triton's messages have the model's name in another field, and are what we offer."""
    for call, message in (
        (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest),
        (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(message(model_name="sums"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert stub.ModelReady(pb.ModelReadyRequest(name="sums")).ready


NOT_LOADED = """\
from modelyard import Model

class Served(Model):
    def load(self) -> None:
        raise RuntimeError("no weights")

    def predict(self, instances: list[float]) -> list[float]:
        return instances
"""


async def test_a_model_that_does_not_load_is_not_ready(rest: Any, v1: Any, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "model.py").write_text(NOT_LOADED)
    (tmp_path / "model.toml").write_text('name = "broken"\nversion = "1"\nclass = "model:Served"\n')
    request = request_of("broken", [input_of("x", "FP64", np.array([1.5]))])
    with Server(tmp_path, settings={"MODELYARD_GRPC_PORT": "0"}) as own:
        page = "/v2/models/broken/ready"
        wait_until(lambda: "RuntimeError" in own.http.get(page).text, what="its failure")
        assert await rest.is_model_ready(own.url, "broken") is False
        assert await v1.is_model_ready(own.url, "broken") is False
        assert await rest.is_server_live(own.url) is True
        with pytest.raises(httpx.HTTPStatusError, match="RuntimeError; see") as over_rest:
            await rest.infer(own.url, request, "broken")
        assert over_rest.value.response.status_code == 503
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            await rest.is_server_ready(own.url)
        async with InferenceGRPCClient(own.grpc_address) as rpc:
            assert await rpc.is_model_ready("broken") is False
            assert await rpc.is_server_ready() is False
            with pytest.raises(grpc.RpcError, match="RuntimeError; see") as over_grpc:
                await rpc.infer(request)
            assert over_grpc.value.code() is grpc.StatusCode.UNAVAILABLE
