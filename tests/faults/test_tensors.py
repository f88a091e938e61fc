"""Requests of tensors in a cluster: through the broker like all others, also when workers die."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

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
