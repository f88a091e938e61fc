"""Questions and answers in MessagePack: the same as in JSON, and arrays with dtype and shape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil
import pytest

from modelyard.arrays import ext_hook, pack_array
from tests.e2e.test_odd_models import write
from tests.support.raw import Answer, connect, request_bytes
from tests.support.server import Server, wait_until

MSGPACK = {"content-type": "application/msgpack"}

IMAGE = """\
from typing import Annotated
import numpy as np
from modelyard import Model, Tensor

class Served(Model):
    example = np.zeros((1, 2, 3), dtype="float32")

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("float32", (2, 3))]
    ) -> Annotated[np.ndarray, Tensor("float64", (2,))]:
        instances *= 2
        return instances.sum(axis=2, dtype="float64") / 2
"""


ONE = np.zeros((1, 2, 3), "<f4")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model of arrays."""
    with Server(write(tmp_path_factory.mktemp("models") / "image", IMAGE)) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


def pack(name: str, instances: Any, **more: Any) -> bytes:
    body = {"model_name": name, "input_data": instances, **more}
    return msgspec.msgpack.encode(body, enc_hook=pack_array)


def ask(server: Server, body: bytes, **headers: str) -> httpx.Response:
    return server.http.post("/predict", content=body, headers=MSGPACK | headers)


def prediction_of(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/msgpack"
    return msgspec.msgpack.decode(response.content, ext_hook=ext_hook)["prediction"]


def test_a_model_answers_in_the_form_in_which_it_is_asked(iris: Server) -> None:
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    assert prediction_of(ask(iris, pack("fast_iris_model", rows, model_version="1"))) == [0, 2]
    again = ask(iris, pack("fast_iris_model", rows, model_version="1"))
    assert (prediction_of(again), again.headers["x-cache"]) == ([0, 2], "hit")
    assert iris.predict("fast_iris_model", rows).json()["prediction"] == [0, 2]


def test_an_array_keeps_dtype_and_shape_both_ways(image: Server) -> None:
    array = np.arange(5 * 6, dtype="<f4").reshape(5, 2, 3)
    given = prediction_of(ask(image, pack("image", array)))
    assert given.dtype == np.dtype("<f8")
    assert np.array_equal(given, array.sum(axis=2))
    assert np.array_equal(prediction_of(ask(image, pack("image", array.tolist()))), given)
    assert image.predict("image", array.tolist()).json()["prediction"] == array.sum(axis=2).tolist()


def test_an_array_as_msgpack_numpy_writes_it_is_taken(image: Server) -> None:
    array = np.arange(6, dtype="<f4").reshape(1, 2, 3)
    said = {
        b"nd": True,
        b"type": "<f4",
        b"kind": b"",
        b"shape": array.shape,
        b"data": array.tobytes(),
    }
    assert np.array_equal(prediction_of(ask(image, pack("image", said))), array.sum(axis=2))


def test_numbers_of_another_dtype_are_refused_and_not_taken_for_others(image: Server) -> None:
    floats = np.ones((2, 2, 3))  # float64, as numpy makes them
    refused = ask(image, pack("image", floats))
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(
        "the array is float64, the model takes float32 of shape (n, 2, 3)"
    )
    bare = ask(image, pack("image", floats.tobytes()))
    assert bare.status_code == 422
    assert "send modelyard.arrays.pack_array(array)" in bare.json()["detail"]
    assert prediction_of(ask(image, pack("image", floats.astype("float16")))).tolist() == [
        [3.0, 3.0],
        [3.0, 3.0],
    ]


def test_a_large_array_gets_through(image: Server) -> None:
    array = np.ones((300_000, 2, 3), dtype="<f4")
    given = prediction_of(ask(image, pack("image", array)))
    assert np.array_equal(given, np.full((300_000, 2), 3.0))


def large_request(rows: int, value: float) -> bytes:
    array = np.full((rows, 2, 3), value, dtype="<f4")
    return request_bytes(pack("image", array), "content-type: application/msgpack")


def is_sum_of(answer: Answer, rows: int, value: float) -> bool:
    given = msgspec.msgpack.decode(answer.body, ext_hook=ext_hook)["prediction"]
    return answer.status == 200 and np.array_equal(given, np.full((rows, 2), 3 * value))


async def test_large_ones_of_many_callers_survive_their_runners(image: Server) -> None:
    """Batches of them lie in memory that runners share with the gateway."""

    async def ask_all(caller: int) -> None:
        async with await connect(image.url) as line:
            for number in range(10):
                rows, value = 4000 * (1 + (caller + number) % 3), caller + number / 16
                assert is_sum_of(await line.ask(large_request(rows, value)), rows, value)

    killed: set[int] = set()

    def kill_three() -> bool:
        for runner in image.runners():
            if runner.pid not in killed:
                killed.add(runner.pid)
                runner.kill()
        return len(killed) >= 3

    killing = asyncio.to_thread(wait_until, kill_three, what="the ends of runners")
    await asyncio.gather(killing, *map(ask_all, range(6)))
    assert image.metric("modelyard_runner_restarts_total", cause="killed") >= 1


async def test_large_and_small_ones_follow_each_other_on_a_connection(image: Server) -> None:
    health = request_bytes(b"", path="/healthz", method="GET")
    async with await connect(image.url) as line:
        for number, rows in enumerate((1, 20_000, 1, 1, 30_000, 40_000, 2)):
            assert is_sum_of(await line.ask(large_request(rows, number)), rows, number)
            assert (await line.ask(health)).json == {"status": "ok"}
        line.send(large_request(20_000, 7) + large_request(1, 8) + health + large_request(9_000, 9))
        assert is_sum_of(await line.answer(), 20_000, 7)
        assert is_sum_of(await line.answer(), 1, 8)
        assert (await line.answer()).json == {"status": "ok"}
        assert is_sum_of(await line.answer(), 9_000, 9)
        assert await line.rest() == b""


async def test_a_large_one_may_come_in_pieces_of_any_size(image: Server) -> None:
    request = large_request(20_000, 0.5)
    async with await connect(image.url) as line:
        for cuts in ((10, 200), (100_000, 479_000), (len(request) - 1,), (70_000, 70_001, 300_000)):
            for start, end in pairwise((0, *cuts, len(request))):
                line.send(request[start:end])
                await asyncio.sleep(0.02)
            assert is_sum_of(await line.answer(), 20_000, 0.5)
        assert await line.rest() == b""


async def test_who_leaves_in_the_middle_of_a_large_one_gives_its_room_back(image: Server) -> None:
    for _ in range(2):
        async with await connect(image.url) as line:
            assert is_sum_of(await line.ask(large_request(20_000, 2)), 20_000, 2)
            line.send(large_request(20_000, 3)[:200_000])
            wait_until(lambda: image.metric("modelyard_body_bytes") > 0, what="the body")
    wait_until(lambda: image.metric("modelyard_body_bytes") == 0, what="the room given back")


async def test_a_large_body_is_let_go_while_its_connection_stays(image: Server) -> None:
    lines, rows, gateway = 24, 300_000, psutil.Process(image.process.pid)
    async with AsyncExitStack() as stack:
        for number in range(lines):
            line = await stack.enter_async_context(await connect(image.url))
            assert is_sum_of(await line.ask(large_request(rows, number)), rows, number)
            if number == 4:
                before = gateway.memory_info().rss
        kept = gateway.memory_info().rss - before
        assert kept < (lines - 5) * len(large_request(rows, 1)) / 4


async def test_a_large_body_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with Server(
        write(tmp_path / "image", IMAGE), settings={"MODELYARD_BODY_TIMEOUT_S": "0.3"}
    ) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as line:
            assert is_sum_of(await line.ask(large_request(20_000, 1)), 20_000, 1)
            line.send(large_request(20_000, 1)[:-1])
            answer = await line.answer()
            assert (answer.status, answer.json["code"]) == (408, "too_slow")
            assert answer.headers["connection"] == "close"
        assert server.metric("modelyard_body_bytes") == 0


def test_both_forms_share_a_batch(image: Server) -> None:
    array = np.ones((1, 2, 3), dtype="<f4")

    def ask_once(number: int) -> list[float]:
        if number % 2:
            (row,) = prediction_of(ask(image, pack("image", array * number)))
            return [float(value) for value in row]
        (answer,) = image.predict("image", (array * number).tolist()).json()["prediction"]
        return list(answer)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask_once, range(200)))
    assert answers == [[3.0 * number] * 2 for number in range(200)]


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"", 400, None),
        (b"\xc1", 400, None),
        (pack("image", ONE)[:-1], 400, None),
        (pack("image", ONE) + b"\0", 400, None),
        (b"\x91" * 5000 + b"\x01", 400, None),
        (b'{"model_name": "image", "input_data": []}', 400, None),
        (msgspec.msgpack.encode([1]), 422, "$"),
        (msgspec.msgpack.encode({"model_name": "image"}), 422, "$"),
        (pack("image", ONE, more=1), 422, "$"),
        (pack("image", bytes(24)), 422, "$.input_data"),
        (pack("image", ONE[:0]), 422, "$.input_data"),
        (pack("image", ONE[0]), 422, "$.input_data"),
        (pack("image", {"a": 1}), 422, "$.input_data"),
        (pack("image", msgspec.msgpack.Ext(5, b"")), 422, "$.input_data"),
        (pack("image", b""), 422, "$.input_data"),
        (pack("image", "text"), 422, "$.input_data"),
        (pack("image", [[[1.0, 2.0]]]), 422, "$.input_data[0]"),
        (pack("image", ONE, timeout_s=float("nan")), 400, "$.timeout_s"),
        (pack("nobody", ONE), 404, None),
    ],
)
def test_bad_input_is_named(image: Server, body: bytes, status: int, where: str | None) -> None:
    response = ask(image, body)
    assert (response.status_code, response.json().get("where")) == (status, where), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused(image: Server) -> None:
    assert ask(image, pack("image", bytes(9 * 1024 * 1024))).status_code == 413
