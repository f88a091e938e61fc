"""V2 and V1 as an HTTP connection sees them, up to what is sent to a runner and back."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import msgspec
import pytest

from modelyard.core.v2 import pack, unpack
from tests.unit.http import Gateway
from tests.unit.wire import chunked, request

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}
OUTPUTS = b'[{"name":"y","datatype":"INT64","shape":[1],"data":[7]}]'
BINARY = b'[{"name":"y","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}}]'
INFER, PREDICT = "/v2/models/iris/infer", "/v1/models/iris:predict"


def infer(*lines: str, path: str = INFER, **more: Any) -> bytes:
    return request(json.dumps({"inputs": [TENSOR], **more}).encode(), *lines, path=path)


def sent(gateway: Gateway, number: int = -1) -> tuple[list[Any], bytes]:
    """Give head and tail of what went to the runner."""
    head, tail = unpack(bytes(gateway.held.calls[number].request.input))
    return json.loads(head), tail


async def test_an_inference_goes_there_and_back() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(infer("x-request-id: mine", id="7"))
    assert sent(gateway) == ([[TENSOR], None], b"")
    await gateway.answer(output=pack(OUTPUTS))
    (answer,) = client.answers
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json == {
        "model_name": "iris",
        "model_version": "1",
        "id": "7",
        "outputs": json.loads(OUTPUTS),
    }


async def test_binary_tensors_follow_the_json_both_ways() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    asked = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    await client.send(
        request(asked + b"abcd", f"inference-header-content-length: {len(asked)}", path=INFER)
    )
    assert sent(gateway) == ([[tensor], None, True], b"abcd")
    await gateway.answer(output=pack(BINARY, b"12345678"))
    (answer,) = client.answers
    length = int(answer.headers["inference-header-content-length"])
    assert answer.body[length:] == b"12345678"
    assert json.loads(answer.body[:length])["outputs"] == json.loads(BINARY)
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_a_raw_request_is_its_one_tensor() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(b"abcd", "inference-header-content-length: 0", path=INFER))
    assert sent(gateway) == ([[], None, True, True], b"abcd")
    await gateway.answer(output=pack(OUTPUTS))
    assert client.answers[0].status == 200


@pytest.mark.parametrize(("coding", "window"), [("gzip", 31), ("deflate", 15)])
async def test_an_answer_is_compressed_for_who_takes_just_that(coding: str, window: int) -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(infer(f"accept-encoding: {coding}"))
    await gateway.answer(output=pack(OUTPUTS))
    (answer,) = client.answers
    assert answer.headers["content-encoding"] == coding
    assert json.loads(zlib.decompress(answer.body, window))["outputs"] == json.loads(OUTPUTS)


async def test_a_body_may_be_compressed_or_chunked() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    body = json.dumps({"inputs": [TENSOR]}).encode()
    await client.send(request(gzip.compress(body), "content-encoding: gzip", path=INFER))
    await gateway.answer(output=pack(OUTPUTS))
    await client.send(chunked(body[:9], body[9:], path=INFER))
    await gateway.answer(output=pack(OUTPUTS))
    assert [answer.status for answer in client.answers] == [200, 200]
    assert sent(gateway, 0) == sent(gateway, 1)


async def test_parameters_are_priority_and_deadline() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(infer(parameters={"priority": 1, "timeout": 2_000_000}))
    asked = gateway.held.calls[-1].request
    assert (asked.priority, asked.deadline - gateway.clock.now) == ("high", 2.0)


@pytest.mark.parametrize(
    ("asked", "status", "problem"),
    [
        (infer(parameters={"sequence_id": 3}), 422, "sequences are not offered"),
        (infer(parameters={"timeout": -1}), 400, "timeout is a whole number"),
        (infer(parameters={"priority": "high"}), 422, "priority is 0"),
        (infer(parameters={"binary_data_output": 1}), 422, "binary_data_output is true"),
        (infer(id=3), 422, "Expected `str | null`"),
        (infer("inference-header-content-length: 9999"), 400, "how many bytes"),
        (infer("inference-header-content-length: x"), 400, "how many bytes"),
        (request(b"{", path=INFER), 400, "truncated"),
        (request(b"{}", path=INFER), 422, "inputs"),
        (infer(path="/v2/models/none/infer"), 404, "no model has this name"),
        (infer(path="/v2/models/iris/versions/9/infer"), 404, "no such version"),
        (infer("content-encoding: br"), 415, "content-encoding"),
        (request(b"", method="GET", path=INFER), 405, "POST is"),
        (request(b"{", path=PREDICT), 400, "truncated"),
        (request(b"{}", path=PREDICT), 422, "instances"),
        (request(b'{"instances":[1]}', path="/v1/models/none:predict"), 404, "no model"),
    ],
)
async def test_errors_are_in_the_protocols_words(asked: bytes, status: int, problem: str) -> None:
    answer = await Gateway().connect().ask(asked)
    assert answer.status == status
    assert answer.json.keys() == {"error"}
    assert problem in answer.json["error"]


@pytest.mark.parametrize("path", [INFER, PREDICT])
async def test_a_body_that_is_refused_as_it_comes_is_so_too(path: str) -> None:
    for asked in (request(b"x" * 101, path=path), chunked(b"x" * 60, b"x" * 60, path=path)):
        client = Gateway(max_body_bytes=100).connect()
        await client.send(asked)
        (answer,) = client.answers
        assert (answer.status, answer.json.keys()) == (413, {"error"})


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/iris/versions/1:predict"])
async def test_instances_go_there_and_predictions_back(path: str) -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(b'{"instances": [1, 2], "signature_name": "x"}', path=path))
    assert msgspec.json.decode(gateway.held.calls[-1].request.input) == [1, 2]
    await gateway.answer(output=b"[3, 4]")
    assert client.answers[0].json == {"predictions": [3, 4]}
