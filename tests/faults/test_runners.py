"""Models that misbehave behind a broker: the worker sees to it, the broker need not know.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cluster import QUEUE, Cluster, events
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.raw import address_of, request_bytes
from tests.support.server import ROOT, wait_until

pytestmark = pytest.mark.own_broker


@pytest.fixture(autouse=True)
def nothing_is_left_or_redelivered(steady: Cluster) -> None:
    """Runs before each test, and so after the one before."""
    assert steady.ask(1).json()["prediction"] == [answer_of(1)]
    assert events("redelivered", *steady.workers) == 0
    wait_until(lambda: is_queue_empty(steady), what="an empty queue")


def is_queue_empty(cluster: Cluster) -> bool:
    """Whether nothing waits, and all that was delivered is acked."""
    listed = cluster.broker.control("list_queues", "name", "messages").splitlines()
    return f"{QUEUE}\t0" in listed


def test_row_1_killed_runners_cost_no_answer(steady: Cluster) -> None:
    (worker,) = steady.workers

    def kill_the_runner() -> bool:
        runners = worker.runners()
        for runner in runners:
            os.kill(runner.pid, signal.SIGKILL)
        return bool(runners)

    ledger = Ledger(steady.gateway.url, connections=8)
    ledger.run_until(Every(1.0, 3, kill_the_runner))
    ledger.check()
    wait_until(lambda: worker.metric("modelyard_runner_restarts_total") >= 3, what="restarts")
    assert events("redelivered", worker) == 0


async def test_row_2_poison_harms_only_itself(steady: Cluster, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    ledger = Ledger(steady.gateway.url)
    async with httpx.AsyncClient(base_url=steady.gateway.url, timeout=60) as client:
        poison = {"nonce": -1, "act": "exit", "diary": str(diary)}
        blocker = ledger.ask(client, {"nonce": 1000, "act": "work", "seconds": 0.2})
        mates = [ledger.ask(client, {"nonce": nonce}) for nonce in range(12)]
        answers = await asyncio.gather(blocker, *mates[:6], ledger.ask(client, poison), *mates[6:])
    ledger.check(502)
    assert ledger.statuses == {200: 13, 502: 1}, ledger
    poisoned = answers[7]
    assert poisoned is not None
    assert poisoned.json()["code"] == "model_crashed"
    assert len(diary.read_text().splitlines()) == 2


async def test_row_3_a_hung_model_is_replaced_and_others_are_answered(steady: Cluster) -> None:
    (worker,) = steady.workers
    (runner,) = worker.runners()
    impatient = Ledger(steady.gateway.url, timeout_s=1)
    patient = Ledger(steady.gateway.url, timeout_s=30)
    async with httpx.AsyncClient(base_url=steady.gateway.url, timeout=60) as client:
        hung = impatient.ask(client, {"nonce": -1, "act": "hang"})
        mates = [patient.ask(client, {"nonce": nonce}) for nonce in range(12)]
        answer, *_ = await asyncio.gather(hung, *mates)
    assert answer is not None
    assert answer.status_code == 504
    assert answer.json()["code"] == "deadline_exceeded"
    patient.check()
    await asyncio.to_thread(wait_until, lambda: not runner.is_running(), what="the runner's end")
    assert worker.metric("modelyard_runner_restarts_total", cause="hung") >= 1


def test_row_11_a_client_that_leaves_leaves_nothing_behind(steady: Cluster) -> None:
    gateway = steady.gateway
    instance = {"nonce": 1, "act": "work", "seconds": 1.0}
    body = json.dumps({"model_name": "trick_model", "input_data": [instance]}).encode()
    (worker,) = steady.workers
    departed = events("departed", worker)
    with socket.create_connection(address_of(gateway.url)) as client:
        client.sendall(request_bytes(body))
        wait_until(lambda: gateway.metric("modelyard_in_flight") == 1, what="one under way")
    wait_until(lambda: gateway.metric("modelyard_in_flight") == 0, what="nothing under way")
    assert gateway.metric("modelyard_requests_total", code="client_gone") == 1
    wait_until(lambda: events("departed", worker) == departed + 1, what="the worker to be told")


def test_row_28_a_damaged_artefact_is_refused_and_others_serve(
    steady: Cluster, tmp_path: Path
) -> None:
    folder = shutil.copytree(ROOT / "models" / "fast_iris_model", tmp_path / "fast_iris_model")
    artefact = folder / "assets" / "iris.onnx"
    content = bytearray(artefact.read_bytes())
    content[100] ^= 1
    artefact.write_bytes(content)
    gateway = steady.gateway

    def version() -> dict[str, Any]:
        found = gateway.http.get("/models/fast_iris_model").json().get("versions", [{}])
        return dict(found[0])

    with steady.worker_of(folder) as damaged:
        wait_until(lambda: version().get("state") == "failed", what="the refusal at the gateway")
        assert "assets/iris.onnx is damaged" in version()["reason"]
        assert "sha256:" in version()["reason"]
        refused = gateway.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]])
        assert refused.status_code == 503
        assert refused.json()["code"] == "model_not_ready"
        assert damaged.http.get("/readyz").status_code == 503
        assert steady.ask(1).status_code == 200
