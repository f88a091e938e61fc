"""What gateways know of models and workers, and how little of it is said again and again."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aio_pika

from modelyard.transports.amqp.topology import CARDS, CATALOG
from tests.e2e.conftest import TRICK
from tests.e2e.test_command_line import run
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick
from tests.support.ledger import answer_of
from tests.support.proxy import Proxy
from tests.support.raw import address_of, request_bytes
from tests.support.server import Member, wait_until


def body_of(nonce: int, **trick: object) -> bytes:
    instance = {"nonce": nonce, **trick}
    return json.dumps({"model_name": "trick_model", "input_data": [instance]}).encode()


def version_at(gateway: Member) -> dict[str, Any]:
    """Give what a gateway tells of the first version of ``trick_model``."""
    versions = gateway.http.get("/models/trick_model").json().get("versions", [])
    return dict(versions[0]) if versions else {}


def test_workers_are_told_one_by_one_with_the_reason_of_those_that_fail(
    cluster: Cluster, tmp_path: Path, stack: ExitStack
) -> None:
    broken = copy_trick(tmp_path)
    (broken / "src" / "model.py").write_text("raise ValueError('broken on purpose')\n")
    stack.enter_context(cluster.worker_of(broken))

    def failed() -> list[dict[str, Any]]:
        workers = version_at(cluster.gateway).get("workers", [])
        return [worker for worker in workers if worker["state"] == "failed"]

    wait_until(lambda: bool(failed()), what="the failed one")
    version = version_at(cluster.gateway)
    assert version["state"] == "ready"
    assert [worker["state"] for worker in version["workers"]] == ["ready", "failed"]
    assert version["capacity"]["workers"] == 1
    (worker,) = failed()
    assert worker["reason"] == "ValueError; see the worker's log"
    (row,) = (
        line
        for line in run("models", "--url", cluster.gateway.url).stdout.splitlines()
        if line.startswith("  on ")
    )
    assert row.endswith("ValueError; see the worker's log")
    everything = json.dumps(cluster.gateway.http.get("/models").json())
    assert "broken on purpose" not in everything + cluster.gateway.output
    assert worker["host"] == socket.gethostname()
    assert cluster.ask(1).json()["prediction"] == [answer_of(1)]


def test_a_worker_that_cannot_load_ends_with_its_reason_where_it_is_told_to(
    broker: Broker, tmp_path: Path
) -> None:
    broken = copy_trick(tmp_path)
    (broken / "src" / "model.py").write_text("raise ValueError('broken on purpose')\n")
    settings = {"MODELYARD_AMQP_URL": broker.url, "MODELYARD_LOAD_ATTEMPTS": "2"}
    with Member("worker", broken, settings=settings) as worker:
        wait_until(lambda: worker.process.poll() is not None, what="its end")
        assert worker.stop() == 1
    last = worker.output.strip().splitlines()[-1]
    assert last.startswith("modelyard: trick_model/1 failed to load: ")
    assert "broken on purpose" in last


def test_a_worker_is_ready_once_it_has_loaded_and_the_broker_is_there(broker: Broker) -> None:
    with Proxy(broker.port) as proxy:
        proxy.refuse()
        settings = {"MODELYARD_AMQP_URL": broker.url_through(proxy.port)}
        with Member("worker", TRICK, settings=settings) as worker:
            waits = "loaded, waiting for the broker"
            wait_until(lambda: waits in worker.output, what="the model")
            assert "\nready " not in worker.output
            proxy.listen()
            wait_until(lambda: "\nready      trick_model/1 " in worker.output, what="the broker")
            assert worker.http.get("/readyz").json()["status"] == "ready"


def test_a_worker_refuses_a_folder_that_is_not_the_one_it_is_to_serve(
    broker: Broker, tmp_path: Path
) -> None:
    settings = {
        "MODELYARD_AMQP_URL": broker.url,
        "MODELYARD_EXPECTED_MODEL": "trick_model/2",
    }
    with Member("worker", copy_trick(tmp_path), settings=settings) as worker:
        wait_until(lambda: worker.process.poll() is not None, what="its end")
        assert worker.stop() == 2
    last = worker.output.strip().splitlines()[-1]
    assert "holds trick_model/1, but this worker is to serve trick_model/2" in last


def test_a_gateway_tells_its_share_of_the_demand(cluster: Cluster, tmp_path: Path) -> None:
    def demand() -> dict[str, float]:
        answer = cluster.gateway.http.get("/models/trick_model/versions/1/demand")
        assert answer.status_code == 200
        return dict(answer.json())

    diary = tmp_path / "diary"
    assert demand()["runners"] == demand()["instances"] == 0
    assert cluster.ask(1, act="work", seconds=0.05).status_code == 200
    wait_until(lambda: demand()["instance_s"] > 0, what="what an instance takes")
    with ExitStack() as asking:
        lines = [
            asking.enter_context(socket.create_connection(address_of(cluster.gateway.url)))
            for _ in range(4)
        ]
        for number, line in enumerate(lines):
            line.sendall(request_bytes(body_of(number, act="wait", diary=str(diary))))
        wait_until(lambda: demand()["instances"] == 4, what="all of them")

        def runners() -> tuple[float, float]:
            metric = cluster.gateway.metric("modelyard_demand_runners", model="trick_model")
            return demand()["runners"], metric

        wait_until(lambda: all(runners()), what="a demand")
        Path(f"{diary}.go").touch()
    wait_until(lambda: demand()["runners"] == 0, what="nothing to do")
    assert cluster.gateway.http.get("/models/nobody/versions/1/demand").status_code == 404


async def test_what_is_said_again_and_again_is_small(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    """An example of 20 MiB is more than RabbitMQ takes; the model appears all the same."""
    folder = copy_trick(tmp_path)
    code = folder / "src" / "model.py"
    large = '[{"nonce": 1, "diary": "x" * (20 << 20)}]'
    text = code.read_text().replace('[{"nonce": 1}]', large)
    code.write_text(text.replace("if trick.diary:", "if False:"))
    assert all(change in code.read_text() for change in ("20 << 20", "if False:"))
    connection = await aio_pika.connect(broker.url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        cluster = await asyncio.to_thread(Cluster, broker, stack, folder=folder)
        for exchange, key in ((CATALOG, ""), (CARDS, "sent")):
            await queue.bind(exchange, key)
        await asyncio.to_thread(cluster.start_worker)
        await asyncio.to_thread(cluster.wait_for_workers, 1)
        sizes: dict[str, list[int]] = {"modelyard.status.1": [], "modelyard.card.1": []}
        while len(sizes["modelyard.status.1"]) < 3:
            message = await queue.get(no_ack=True, fail=False)
            if message is not None:
                sizes[str(message.type)].append(len(message.body))
            await asyncio.sleep(0.05)
    assert max(sizes["modelyard.status.1"]) < 400
    assert len(sizes["modelyard.card.1"]) <= 3
    assert max(sizes["modelyard.card.1"]) < 10_000
    assert version_at(cluster.gateway)["example"] is None


def test_a_gateway_that_starts_while_no_worker_is_up_knows_that_one_was(
    broker: Broker, stack: ExitStack
) -> None:
    cluster = Cluster(broker, stack)
    cluster.start_worker()
    cluster.wait_for_workers(1)
    cluster.workers[0].process.kill()
    cluster.gateway.process.kill()
    cluster.gateway = cluster.start_gateway()
    refused = cluster.ask(1)
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
    assert "retry-after" in refused.headers
    assert version_at(cluster.gateway)["state"] == "stopped"
    cluster.start_worker()
    cluster.wait_for_workers(1)
    assert cluster.ask(2).json()["prediction"] == [answer_of(2)]


def test_a_target_that_nobody_announces_is_forgotten(broker: Broker, stack: ExitStack) -> None:
    cluster = Cluster(broker, stack, MODELYARD_FORGET_MODEL_S="0.5")
    cluster.start_worker()
    cluster.wait_for_workers(1)
    assert cluster.ask(1).status_code == 200
    cluster.workers[0].stop()
    wait_until(lambda: cluster.gateway.http.get("/models").json() == {"models": []}, what="its end")
    assert cluster.ask(1).json()["code"] == "model_not_found"
    assert cluster.gateway.metric("modelyard_runners", model="trick_model") == 0
    kept = f"{CARDS}.classic"
    counts = ("list_queues", "name", "messages")
    wait_until(lambda: f"{kept}\t0" in broker.control(*counts), what="the end of its card")
    later = cluster.start_gateway()
    assert later.http.get("/models").json() == {"models": []}
    cluster.start_worker()
    cluster.wait_for_workers(1)
    assert cluster.ask(2).json()["prediction"] == [answer_of(2)]
