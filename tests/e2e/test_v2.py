"""V2 and V1 as whoever writes HTTP by hand sees them: framing, raw bodies, limits, errors."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.identities import write_others
from tests.support.raw import connect, request_bytes
from tests.support.server import ROOT, Server, wait_until

MAX_BODY_BYTES = 100_000
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"MODELYARD_MAX_BODY_BYTES": str(MAX_BODY_BYTES)}
    folders = write_others(tmp_path_factory.mktemp("models")), ROOT / "models" / "fast_iris_model"
    with Server(*folders, settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])
TENSOR = {"name": "x", "datatype": "FP64", "shape": [2, 4], "data": ROWS.tolist()}
IRIS = "/v2/models/fast_iris_model/infer"


def infer(server: Server, path: str = IRIS, **body: Any) -> httpx.Response:
    return server.http.post(path, json={"inputs": [TENSOR], **body})


def test_an_inference_says_what_predict_says(server: Server) -> None:
    answer = infer(server)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-cache"] == "miss"
    predicted = server.predict("fast_iris_model", ROWS.tolist()).json()["prediction"]
    assert answer.json() == {
        "model_name": "fast_iris_model",
        "model_version": "1",
        "outputs": [{"name": "output", "datatype": "INT64", "shape": [2], "data": predicted}],
    }


def test_no_content_type_is_asked_for_and_queries_mean_nothing(server: Server) -> None:
    left_out = dict.fromkeys(("id", "parameters", "outputs"))  # as null, which some clients write
    body = json.dumps({"inputs": [{**TENSOR, "parameters": None}], **left_out})
    answer = server.http.post(f"{IRIS}?a=b", content=body, headers={"x-request-id": "mine"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("head", [b'{"inputs":[%b]}', b' {"inputs" : [%b] , "id":"a"}\n'])
def test_bytes_behind_the_json_are_the_tensors(server: Server, head: bytes) -> None:
    about = {k: v for k, v in TENSOR.items() if k != "data"}
    tensor = json.dumps({**about, "parameters": {"binary_data_size": ROWS.nbytes}}).encode()
    json_part = head % tensor
    headers = {LENGTH: str(len(json_part)), "content-type": "application/octet-stream"}
    body = json_part + ROWS.tobytes()
    for packed, coding in ((body, "identity"), (gzip.compress(body), "gzip")):
        sent = {**headers, "content-encoding": coding}
        answer = server.http.post(IRIS, content=packed, headers=sent).json()
        assert answer["outputs"][0]["data"] == [0, 2]


def test_a_raw_body_is_one_instance_and_its_answer_is_binary(server: Server) -> None:
    answer = server.http.post(IRIS, content=ROWS[1].tobytes(), headers={LENGTH: "0"})
    assert answer.headers["content-type"] == "application/octet-stream"
    head = json.loads(answer.content[: int(answer.headers[LENGTH])])
    (output,) = head["outputs"]
    assert output["shape"] == [1]
    assert output["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(answer.content[int(answer.headers[LENGTH]) :], "<i8").tolist() == [2]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_answer_is_compressed_for_who_takes_just_that(server: Server, coding: str) -> None:
    alone = server.http.post(IRIS, json={"inputs": [TENSOR]}, headers={"accept-encoding": coding})
    assert alone.headers["content-encoding"] == coding
    assert alone.json()["outputs"][0]["data"] == [0, 2]  # httpx inflates it
    usual = infer(server)
    assert "content-encoding" not in usual.headers


@pytest.mark.parametrize(
    ("priority", "status"), [(0, 200), (1, 200), (7, 200), (-1, 422), ("1", 422), (True, 422)]
)
def test_a_priority_is_a_level(server: Server, priority: Any, status: int) -> None:
    assert infer(server, parameters={"priority": priority}).status_code == status


BAD_JSON = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,4],"data":[1,2,3,NaN]}]}'
DEEP = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,4],"data":' + b"[" * 99 + b"]" * 99


@pytest.mark.parametrize(
    ("body", "headers", "status", "problem"),
    [
        (b"", {}, 400, "truncated"),
        (b"{}", {}, 422, "missing required field `inputs`"),
        (b"[]", {}, 422, "Expected `object`"),
        (b'{"inputs":null}', {}, 422, "Expected `array`, got `null` (at inputs)"),
        (b'{"inputs":[]}', {}, 422, "input 'input' is missing"),
        (b'{"inputs":[{}]}', {}, 422, "missing required field `name` (at inputs[0])"),
        (b'{"inputs":[],"id":7}', {}, 422, "Expected `str | null`, got `int` (at id)"),
        (b'{"inputs":[],"parameters":{"timeout":-1}}', {}, 400, "(at parameters.timeout)"),
        (b'{"inputs":[],"parameters":{"timeout":1.5}}', {}, 400, "(at parameters.timeout)"),
        (b'{"inputs":[],"parameters":{"timeout":"1"}}', {}, 400, "(at parameters.timeout)"),
        (b'{"inputs":[],"parameters":{"timeout":3600000001}}', {}, 400, "(at parameters.timeout)"),
        (b'{"inputs":[],"parameters":{"timeout":1%b}}' % (b"0" * 400), {}, 400, "microseconds"),
        (b'{"inputs":[],"parameters":{"binary_data_output":1}}', {}, 422, "true or false"),
        (b'{"inputs":[],"parameters":{"sequence_id":7}}', {}, 422, "sequences are not offered"),
        (b'{"inputs":[]', {}, 400, "truncated"),
        (b"\xff", {}, 400, ""),
        (BAD_JSON, {}, 400, ""),
        (DEEP + b"}]}", {}, 400, "nested deeper"),
        (b"{}", {LENGTH: "3"}, 400, "is how many bytes of the body are JSON, of 2"),
        (b"{}", {LENGTH: "-1"}, 400, "is how many bytes"),
        (b"{}", {LENGTH: "9" * 5000}, 400, "is how many bytes"),
        (b"", {LENGTH: "0"}, 422, "is 32 bytes, there are 0"),
        (b"{}", {"content-encoding": "br"}, 415, "gzip or deflate"),
        (b"{}", {"content-encoding": "gzip"}, 400, "not gzip"),
        (b"{}", {"content-encoding": "deflate"}, 400, "not deflate"),
        (
            zlib.compress(bytes(200_000)),
            {"content-encoding": "deflate"},
            413,
            "over the limit of 100000",
        ),
        (bytes(MAX_BODY_BYTES + 1), {}, 413, "over the limit of 100000 bytes"),
    ],
)
def test_what_is_wrong_is_an_error_in_the_protocols_form(
    server: Server, body: bytes, headers: dict[str, str], status: int, problem: str
) -> None:
    answer = server.http.post(IRIS, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    assert problem in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", IRIS, 405),
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/fast_iris_model/versions/9/infer", 404),
        ("POST", "/v2/models/%2e%2e/infer", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/fast_iris_model/versions/9", 404),
        ("GET", "/v2/models/nothing/stats", 404),
        ("GET", "/v2/models/nothing/config", 404),
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2/models/fast_iris_model/train", 404),
        ("DELETE", "/v2", 405),
        ("GET", "/v1/models/nothing", 404),
        ("POST", "/v1/models/nothing:predict", 404),
        ("POST", "/v1/models/fast_iris_model:explain", 501),
        ("GET", "/v1/models/fast_iris_model:predict", 405),
    ],
)
def test_what_is_not_there_is_said_so_too(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = server.http.request(method, path, json={"inputs": [TENSOR], "instances": [1]})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


async def test_one_connection_speaks_all_protocols_in_turn(server: Server) -> None:
    rows = ROWS.tolist()
    async with await connect(server.url) as line:
        for path, body, key in (
            (IRIS, {"inputs": [TENSOR]}, "outputs"),
            ("/v1/models/fast_iris_model:predict", {"instances": rows}, "predictions"),
            ("/predict", {"model_name": "fast_iris_model", "input_data": rows}, "prediction"),
            (IRIS, {"inputs": []}, "error"),
            (IRIS, {"inputs": [TENSOR]}, "outputs"),
        ):
            answer = await line.ask(request_bytes(json.dumps(body).encode(), path=path))
            assert key in answer.json


def test_the_server_tells_what_it_is(server: Server) -> None:
    for path in ("/v2", "/v2/"):
        about = server.http.get(path).json()
        assert about["name"] == "modelyard"
        assert "binary_tensor_data" in about["extensions"]
    assert server.http.get("/v2/health/live").json() == {"live": True}
    assert server.http.get("/v2/health/ready").json() == {"live": True, "ready": True}
    names = ["fast_iris_model", "people", "sums"]
    assert server.http.get("/v2/models").json() == {"models": names}
    ready = {"name": "sums", "ready": True}
    assert server.http.get("/v2/models/sums/ready").json() == ready
    assert server.http.get("/v2/models/sums/versions/1/ready").json() == ready


def test_the_index_may_be_asked_for_with_or_without_a_body(server: Server) -> None:
    for body in (b"", b"{}", b'{"ready":true}'):
        index = server.http.post("/v2/repository/index", content=body).json()
        assert [(e["name"], e["version"]) for e in index] == [
            ("fast_iris_model", "1"),
            ("people", "1"),
            ("sums", "2"),
            ("sums", "1"),
        ]
    assert server.http.post("/v2/repository/index", content=b"[").status_code == 400


def test_v1_is_predict_by_other_names(server: Server) -> None:
    for path in ("fast_iris_model:predict", "fast_iris_model/versions/1:predict"):
        answer = server.http.post(f"/v1/models/{path}", json={"instances": ROWS.tolist()})
        assert answer.json() == {"predictions": [0, 2]}
        assert answer.headers["content-type"] == "application/json"
    person = {"name": "Ada"}
    answer = server.http.post("/v1/models/people:predict", json={"instances": [person]})
    assert answer.json()["predictions"][0]["text"] == "Hello Ada"


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({"instances": [[1]]}, 422, "Expected `array` of length >= 4 (at instances[0])"),
        ({"instances": []}, 422, "there are no instances (at instances)"),
        ({"inputs": []}, 422, "missing required field `instances`"),
        ([], 422, "Expected `object`"),
    ],
)
def test_errors_of_v1(server: Server, body: Any, status: int, problem: str) -> None:
    answer = server.http.post("/v1/models/fast_iris_model:predict", json=body)
    assert answer.status_code == status
    assert problem in answer.json()["error"]


def test_the_list_of_v1_is_read_by_kserves_clients_and_by_openais(server: Server) -> None:
    listed = server.http.get("/v1/models").json()
    assert listed["models"] == ["fast_iris_model", "people", "sums"]
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == listed["models"]
    one = server.http.get("/v1/models/sums").json()
    assert (one["name"], one["ready"]) == ("sums", True)
    for model in (*listed["data"], one):
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"] == "modelyard"


def test_the_documentation_has_an_example_for_each_model_that_works(server: Server) -> None:
    document = server.http.get("/openapi.json").json()
    for path, key in (
        ("/v2/models/{name}/infer", "outputs"),
        ("/v1/models/{name}:predict", "predictions"),
    ):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert list(body["examples"]) == ["fast_iris_model.1", "people.1", "sums.2", "sums.1"]
        for label, example in body["examples"].items():
            name = label.partition(".")[0]
            answer = server.http.post(path.replace("{name}", name), json=example["value"])
            assert key in answer.json(), (label, answer.text)
    operation = document["paths"]["/v2/models/{name}/infer"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["examples"]["sums.1"]["value"]
    asked = {**example, "parameters": {"binary_data_output": True}}
    answer = server.http.post("/v2/models/sums/versions/1/infer", json=asked)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-type"] in operation["responses"]["200"]["content"]
