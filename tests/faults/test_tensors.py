"""Requests of tensors in a cluster: through the broker like all others, also when workers die."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.identities import write_others
from tests.support.server import wait_until

A = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -2]}
INFER = "/v2/models/sums/infer"


@pytest.fixture(scope="module")
def cluster(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = write_others(tmp_path_factory.mktemp("models")) / "sums-1"
    with ExitStack() as stack:
        cluster = Cluster(broker, stack, folder=folder)
        cluster.start_worker()
        knows = cluster.gateway.http.get
        wait_until(lambda: knows("/v2/models/sums/ready").status_code == 200, what="the model")
        yield cluster


def question(number: int, **more: object) -> bytes:
    b = {"name": "b", "shape": [1, 2], "datatype": "INT64", "data": [number, 2]}
    return json.dumps({"id": str(number), "inputs": [A, b], **more}).encode()


def test_a_gateway_tells_what_tensors_a_model_takes(cluster: Cluster) -> None:
    found = cluster.gateway.http.get("/v2/models/sums").json()
    assert [tensor["name"] for tensor in found["inputs"]] == ["a", "b"]
    assert cluster.gateway.http.get("/v2/models/sums/config").json()["output"][1] == {
        "name": "is_more",
        "data_type": "TYPE_BOOL",
        "dims": [2],
    }


def test_tensors_go_there_and_back(cluster: Cluster) -> None:
    answer = cluster.gateway.http.post(INFER, content=question(1)).json()
    assert answer["id"] == "1"
    assert answer["outputs"][0]["data"] == [2.5, 0.0]
    wanted = {"parameters": {"binary_data_output": True}}
    raw = cluster.gateway.http.post(INFER, content=question(1, **wanted))
    assert len(raw.content) - int(raw.headers["inference-header-content-length"]) == 18


def test_each_is_answered_once_and_right_while_runners_are_killed(cluster: Cluster) -> None:
    def ask(number: int) -> tuple[int, float]:
        answer = cluster.gateway.http.post(INFER, content=question(number)).json()
        return int(answer["id"]), answer["outputs"][0]["data"][0]

    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(ask, range(400))
        answers = []
        for position, answer in enumerate(asked):
            answers.append(answer)
            if position in (100, 200):
                for runner in cluster.workers[0].runners():
                    runner.send_signal(signal.SIGKILL)
    assert answers == [(number, 1.5 + number) for number in range(400)]


def loop_over(client: Any, tensor: Any, stopped: threading.Event, answers: list[float]) -> None:
    """Ask one question after the other until it is over; each answer has to be the right one."""
    number = 0
    while not stopped.is_set():
        number += 1
        a = tensor("a", [1, 2], "FP32")
        a.set_data_from_numpy(np.array([[1.5, -2]], "f4"))
        b = tensor("b", [1, 2], "INT64")
        b.set_data_from_numpy(np.array([[number, 2]]))
        found = client.infer("sums", [a, b]).as_numpy("sum")
        assert found.tolist() == [[1.5 + number, 0]]
        answers.append(found[0][0])


def is_through(
    asking: list[Future[None]], answers: dict[str, list[float]], due: dict[str, int]
) -> bool:
    """Tell whether each has as many answers as are due, or one has failed."""
    is_over = any(one.done() for one in asking)
    return is_over or all(len(answers[name]) > least for name, least in due.items())


def test_tritons_clients_see_no_worker_that_is_killed(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_others(tmp_path_factory.mktemp("models")) / "sums-1"
    with ExitStack() as stack:
        cluster = Cluster(broker, stack, folder=folder, MODELYARD_GRPC_PORT="0")
        for _ in range(2):
            cluster.start_worker()
        knows = cluster.gateway.http.get
        wait_until(lambda: knows("/v2/models/sums/ready").status_code == 200, what="the model")
        address = cluster.gateway.url.removeprefix("http://")
        over_http = stack.enter_context(triton_http.InferenceServerClient(address))
        over_grpc = stack.enter_context(
            triton_grpc.InferenceServerClient(cluster.gateway.grpc_address)
        )
        stopped, answers = threading.Event(), {"http": list[float](), "grpc": list[float]()}
        with ThreadPoolExecutor(2) as pool:
            asking = [
                pool.submit(loop_over, client, module.InferInput, stopped, answers[name])
                for client, module, name in (
                    (over_http, triton_http, "http"),
                    (over_grpc, triton_grpc, "grpc"),
                )
            ]
            try:
                for worker in range(5):
                    due = {name: len(found) + 50 for name, found in answers.items()}
                    cluster.workers[worker].process.send_signal(signal.SIGKILL)
                    cluster.start_worker()
                    wait_until(partial(is_through, asking, answers, due), what="answers")
            finally:
                stopped.set()
            for one in asking:
                one.result()
