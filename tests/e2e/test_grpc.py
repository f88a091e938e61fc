"""gRPC by Triton's own clients and messages: what they send is understood and answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.e2e.test_tritonclient import DATATYPES, A, B, same, values
from tests.support.identities import write_identities, write_others
from tests.support.server import PATIENCE_S, Server, complaint_of, wait_until

FIELDS = {
    **{"BOOL": "bool_contents", "BYTES": "bytes_contents"},
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{"INT64": "int64_contents", "UINT64": "uint64_contents"},
    **{"FP32": "fp32_contents", "FP64": "fp64_contents"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_others(write_identities(tmp_path_factory.mktemp("models")))
    with Server(folder, settings={"MODELYARD_GRPC_PORT": "0"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.grpc_address) as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def input_of(name: str, datatype: str, array: Any) -> Any:
    tensor = triton.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def numbers() -> list[Any]:
    return [input_of("b", "INT64", B), input_of("a", "FP32", A)]


def people(name: str, age: int = 0) -> list[Any]:
    return [
        input_of("name", "BYTES", np.array([name], dtype=object)),
        input_of("age", "INT64", np.array([age])),
    ]


def pairs_of(error: Any) -> list[tuple[str, str]]:
    return [(pair.key, pair.value) for pair in error.trailing_metadata()]


def typed(datatype: str, elements: list[Any], *, field: str = "") -> Any:
    """Give a request whose tensor is in ``contents``."""
    request = service_pb2.ModelInferRequest(model_name=datatype.lower())
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[3, 2])
    getattr(tensor.contents, field or FIELDS[datatype]).extend(elements)
    return request


def test_each_datatype_comes_back_raw(client: Any) -> None:
    for datatype in DATATYPES:
        array = values(datatype)
        result = client.infer(datatype.lower(), [input_of("x", datatype, array)])
        (output,) = result.get_response().outputs
        assert (output.datatype, list(output.shape)) == (datatype, [3, 2])
        assert not output.contents.ListFields()
        assert same(result.as_numpy(output.name), array), datatype


@pytest.mark.parametrize("datatype", FIELDS)
def test_each_datatype_comes_back_as_it_was_sent_in_contents(stub: Any, datatype: str) -> None:
    elements = values(datatype).reshape(-1).tolist()
    if datatype == "BYTES":
        elements = [text.encode() for text in elements]
    answer = stub.ModelInfer(typed(datatype, elements))
    assert not answer.raw_output_contents
    (output,) = answer.outputs
    assert list(getattr(output.contents, FIELDS[datatype])) == elements
    assert (output.datatype, list(output.shape)) == (datatype, [3, 2])


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (typed("FP16", [1.5] * 6, field="fp32_contents"), "FP16 has no field in contents"),
        (typed("BF16", [1.5] * 6, field="fp32_contents"), "'BF16' is no datatype"),
        (typed("FP32", [1] * 6, field="int_contents"), "FP32 are in fp32_contents"),
        (typed("INT8", [1, 2, 3, 4, 5, 128]), "out of the range of INT8"),
        (typed("FP32", [1.5] * 5), r"is 24 bytes, there are 20 \(at inputs\[0\]\)"),
        (typed("FP32", []), "is 24 bytes, there are 0"),
    ],
)
def test_tensors_that_are_not_what_they_say_are_refused(
    stub: Any, request_: Any, problem: str
) -> None:
    with pytest.raises(grpc.RpcError, match=problem) as caught:
        stub.ModelInfer(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_raw_and_contents_exclude_each_other(stub: Any) -> None:
    request = typed("FP32", [1.5] * 6)
    request.raw_input_contents.append(bytes(24))
    with pytest.raises(grpc.RpcError, match="exclude each other"):
        stub.ModelInfer(request)
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(bytes(24))
    with pytest.raises(grpc.RpcError, match="1 inputs and 2 raw_input_contents"):
        stub.ModelInfer(request)


def test_what_is_no_message_is_refused(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for body in (b"\xff\xff\xff", b"{}"):
        with pytest.raises(grpc.RpcError, match="this is no ModelInferRequest") as caught:
            call(body)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_two_inputs_and_the_outputs_that_are_asked_for(client: Any) -> None:
    wanted = [triton.InferRequestedOutput("is_more"), triton.InferRequestedOutput("sum")]
    result = client.infer("sums", numbers(), model_version="1", outputs=wanted, request_id='"1"')
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("sums", "1", '"1"')
    assert [output.name for output in answer.outputs] == ["is_more", "sum"]
    assert result.as_numpy("sum").tolist() == [[2.5, 0]]
    assert result.as_numpy("is_more").tolist() == [[True, False]]
    only = client.infer("sums", numbers(), outputs=wanted[:1]).get_response().outputs
    assert [output.name for output in only] == ["is_more"]
    default = client.infer("sums", numbers())
    assert default.get_response().model_version == "2"
    assert default.as_numpy("sum").tolist() == [[-2.5, 0]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_compressed(client: Any, algorithm: str) -> None:
    array = np.arange(20_000, dtype="f4").reshape(-1, 2)
    given = [input_of("x", "FP32", array)]
    result = client.infer("fp32", given, compression_algorithm=algorithm)
    assert same(result.as_numpy("x"), array)


def test_large_tensors_come_back_raw_and_in_contents(client: Any, stub: Any) -> None:
    array = np.arange(400_000, dtype="f4").reshape(-1, 2)
    given = [input_of("x", "FP32", array)]
    assert same(client.infer("fp32", given).as_numpy("x"), array)
    request = typed("FP32", array.reshape(-1).tolist())
    request.inputs[0].shape[0] = len(array)
    answer = stub.ModelInfer(request)
    assert list(answer.outputs[0].contents.fp32_contents) == array.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("model", "inputs", "status", "problem"),
    [
        ("nothing", numbers(), "NOT_FOUND", "no model has this name"),
        ("sums", numbers()[:1], "INVALID_ARGUMENT", "input 'a' is missing"),
        ("sums", [input_of("c", "FP32", A)], "INVALID_ARGUMENT", "no input 'c'; it takes a, b"),
        ("fp32", [input_of("x", "FP64", values("FP64"))], "INVALID_ARGUMENT", "model takes FP32"),
        ("people", people("nobody"), "INVALID_ARGUMENT", "no person \\(at instances\\[0\\]\\)"),
        ("people", people("broken"), "INTERNAL", "the model raised RuntimeError"),
    ],
)
def test_errors_have_the_statuses_of_grpc(
    client: Any, model: str, inputs: list[Any], status: str, problem: str
) -> None:
    with pytest.raises(InferenceServerException, match=problem) as caught:
        client.infer(model, inputs)
    assert caught.value.status() == f"StatusCode.{status}"


def test_a_version_that_is_not_there_is_said_with_those_that_are(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="it has 2, 1") as caught:
        client.infer("sums", numbers(), model_version="3")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_a_message_over_the_limit_is_refused(server: Server, client: Any) -> None:
    array = np.zeros((1_100_000, 2), "f4")
    with pytest.raises(InferenceServerException, match="larger than max") as caught:
        client.infer("fp32", [input_of("x", "FP32", array)])
    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert client.is_server_live()


def test_the_request_id_and_the_use_of_the_cache_are_metadata(stub: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="sums", model_version="2")
    for name, datatype, array in (("a", "FP32", A + 7), ("b", "INT64", B)):
        request.inputs.add(name=name, datatype=datatype, shape=[1, 2])
        request.raw_input_contents.append(array.tobytes())
    for use, more in (("miss", ()), ("hit", ()), ("bypass", (("cache-control", "no-cache"),))):
        metadata = (("x-request-id", f"mine-{use}"), *more)
        _, call = stub.ModelInfer.with_call(request, metadata=metadata)
        told: dict[Any, Any] = dict(call.trailing_metadata())
        assert (told["x-request-id"], told["x-cache"]) == (f"mine-{use}", use)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(service_pb2.ModelInferRequest(model_name="nothing"))
    assert dict(pairs_of(caught.value))["x-error-code"] == "model_not_found"


def test_an_answer_in_the_cache_serves_rest_and_grpc(server: Server, client: Any) -> None:
    array = values("FP32") + 1
    before = server.metric("modelyard_cache_requests_total", model="sums", use="hit")
    given = [input_of("a", "FP32", array[1:2]), input_of("b", "INT64", B)]
    for _ in range(2):
        client.infer("sums", given, model_version="2")
    after = server.metric("modelyard_cache_requests_total", model="sums", use="hit")
    assert after - before == 1


def test_the_deadline_is_the_clients_or_that_of_the_parameter(client: Any, server: Server) -> None:
    for options in ({"timeout": 50_000}, {"client_timeout": 0.05}):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("people", people("late", 300), **options)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_a_client_may_have_all_the_time_there_is(client: Any) -> None:
    result = client.infer("sums", numbers(), client_timeout=7200)
    assert result.get_response().model_name == "sums"
    with pytest.raises(InferenceServerException, match=r"\(at parameters\.timeout\)") as caught:
        client.infer("sums", numbers(), timeout=7_200_000_000)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_call_that_is_cancelled_is_given_up(client: Any, server: Server) -> None:
    def given_up() -> float:
        return server.metric("modelyard_requests_total", model="people", code="client_gone")

    before = given_up()
    call = client.async_infer("people", people("late", 400), callback=lambda result, error: None)
    wait_until(lambda: server.metric("modelyard_in_flight", model="people"), what="its start")
    call.cancel()
    wait_until(lambda: given_up() == before + 1, what="the request to be given up")


def streamed(client: Any, requests: list[tuple[str, list[Any]]]) -> list[Any]:
    """Send requests on one stream; give its answers and errors in their order."""
    answers: Queue[Any] = Queue()
    client.start_stream(callback=lambda result, error: answers.put(error or result))
    try:
        for number, (model, inputs) in enumerate(requests):
            client.async_stream_infer(model, inputs, request_id=str(number))
        return [answers.get(timeout=PATIENCE_S) for _ in requests]
    finally:
        client.stop_stream()


def test_a_stream_answers_in_order_and_goes_on_after_an_error(client: Any) -> None:
    late = ("people", people("late", 200))
    found = streamed(client, [late, ("sums", numbers()), ("nothing", []), late, ("sums", [])])
    assert [type(answer) for answer in found] == [
        triton.InferResult,
        triton.InferResult,
        InferenceServerException,
        triton.InferResult,
        InferenceServerException,
    ]
    assert [found[number].get_response().id for number in (0, 1, 3)] == ["0", "1", "3"]
    assert found[1].as_numpy("sum").tolist() == [[-2.5, 0]]
    assert found[1].get_response().parameters["triton_final_response"].bool_param
    assert "no model has this name" in str(found[2])


def test_requests_of_a_stream_run_side_by_side(client: Any, server: Server) -> None:
    array = np.arange(2, dtype="f4").reshape(1, 2)
    found = streamed(client, [("fp32", [input_of("x", "FP32", array + n)]) for n in range(500)])
    assert [answer.as_numpy("x")[0][0] for answer in found] == list(range(500))


async def test_its_asyncio_client_is_answered_as_well(server: Server) -> None:
    async with triton_aio.InferenceServerClient(server.grpc_address) as client:
        assert await client.is_server_ready()
        array = values("FP32")
        result = await client.infer("fp32", [input_of("x", "FP32", array)], request_id="7")
        assert result.get_response().id == "7"
        assert same(result.as_numpy("x"), array)
        with pytest.raises(InferenceServerException, match="no model has this name"):
            await client.infer("nothing", [input_of("x", "FP32", array)])

        async def requests() -> Any:
            for number in range(3):
                yield {
                    "model_name": "fp32",
                    "inputs": [input_of("x", "FP32", array + number)],
                    "request_id": str(number),
                }

        found = [answer async for answer in client.stream_infer(requests())]
        assert [error for _, error in found] == [None] * 3
        assert [result.get_response().id for result, _ in found] == ["0", "1", "2"]


def test_metadata_and_configuration_are_those_of_rest(client: Any, server: Server) -> None:
    for name in ("sums", "people", "bytes"):
        rest = server.http.get(f"/v2/models/{name}").json()
        found = client.get_model_metadata(name, as_json=True)
        assert found["versions"] == rest["versions"]
        for side in ("inputs", "outputs"):
            for tensor, other in zip(found[side], rest[side], strict=True):
                assert [int(length) for length in tensor["shape"]] == other["shape"]
                assert (tensor["name"], tensor["datatype"]) == (other["name"], other["datatype"])
        config = client.get_model_config(name).config
        assert (
            config.max_batch_size
            == server.http.get(f"/v2/models/{name}/config").json()["max_batch_size"]
        )
    assert client.get_model_config("people").config.input[1].optional
    assert client.get_server_metadata().name == "modelyard"
    for call in (client.get_model_metadata, client.get_model_config):
        with pytest.raises(InferenceServerException) as caught:
            call("nothing")
        assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_it_tells_what_is_ready(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "1")
    assert not client.is_model_ready("sums", "3")
    assert not client.is_model_ready("nothing")
    index = client.get_model_repository_index().models
    rest = server.http.post("/v2/repository/index").json()
    assert [(m.name, m.version, m.state) for m in index] == [
        (m["name"], m["version"], m["state"]) for m in rest
    ]


def test_statistics_count_what_ran(client: Any) -> None:
    def read() -> Any:
        (found,) = client.get_inference_statistics("sums", "1").model_stats
        return found

    before = read()
    for _ in range(3):
        client.infer("sums", numbers(), model_version="1")
    after = read()
    assert after.inference_count - before.inference_count == 3
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert len(client.get_inference_statistics("sums").model_stats) == 2
    assert len(client.get_inference_statistics().model_stats) == len(DATATYPES) + 3


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException) as caught:
            change("nothing")
        assert caught.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="as its folder is"):
        client.load_model("people", config="{}")
    client.unload_model("people")
    assert not client.is_model_ready("people")
    index = {
        one.name: (one.state, one.reason) for one in client.get_model_repository_index().models
    }
    assert index["people"] == ("UNAVAILABLE", "unloaded")
    with pytest.raises(InferenceServerException):
        client.infer("people", people("Ada"))
    client.load_model("people")
    assert client.is_model_ready("people")
    assert client.infer("people", people("Ada")).as_numpy("letters").tolist() == [3]


def test_what_is_not_offered_is_unimplemented(client: Any) -> None:
    for call in (client.get_trace_settings, client.get_system_shared_memory_status):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_health_and_reflection(channel: grpc.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", "inference.GRPCInferenceService"):
        asked = health_pb2.HealthCheckRequest(service=service)
        assert health.Check(asked).status == health_pb2.HealthCheckResponse.SERVING
        assert next(health.Watch(asked)).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "inference.GRPCInferenceService" in database.get_services()
    for symbol in ("inference.GRPCInferenceService", "grpc.health.v1.Health"):
        assert database.FindFileContainingSymbol(symbol).service


def test_a_server_that_stops_finishes_the_calls_in_progress(server: Server, tmp_path: Any) -> None:
    folder = write_others(tmp_path)
    with Server(folder, settings={"MODELYARD_GRPC_PORT": "0"}) as own:
        wait_until(lambda: own.http.get("/readyz").status_code == 200, what="the models")
        address = own.grpc_address
        with triton.InferenceServerClient(address) as client:
            answers: Queue[Any] = Queue()
            for number in range(20):
                client.async_infer(
                    "people",
                    people("late", 100 + number),
                    callback=lambda result, error: answers.put(error or result),
                )
            wait_until(
                lambda: own.metric("modelyard_in_flight", model="people") == 20, what="them all"
            )
            stopping = threading.Thread(target=own.stop)
            stopping.start()
            found = [answers.get(timeout=PATIENCE_S) for _ in range(20)]
            stopping.join(PATIENCE_S)
            assert [answer for answer in found if not isinstance(answer, triton.InferResult)] == []


def test_a_port_that_is_taken_is_said_in_one_line(server: Server, tmp_path: Any) -> None:
    port = server.grpc_address.rpartition(":")[2]
    assert complaint_of("serve", write_others(tmp_path), "--grpc-port", port) == (
        f"modelyard: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another --grpc-port\n"
    )
