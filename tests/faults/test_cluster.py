"""The cluster shape without faults: models come and go, priorities, sizes."""

from __future__ import annotations

import json

from tests.support.cluster import Cluster
from tests.support.ledger import answer_of


def test_a_new_model_appears_and_a_stopped_one_gets_503_at_once(cluster: Cluster) -> None:
    answer = cluster.gateway.predict("trick_model", [{"nonce": 1}])
    assert answer.json()["prediction"] == [answer_of(1)]
    cluster.workers[0].stop()
    cluster.wait_for_workers(0)
    refused = cluster.gateway.predict("trick_model", [{"nonce": 1}])
    assert refused.status_code == 503
    assert refused.json()["code"] == "model_not_ready"
    assert "retry-after" in refused.headers
    cluster.start_worker()
    cluster.wait_for_workers(1)
    assert cluster.gateway.predict("trick_model", [{"nonce": 2}]).status_code == 200
    late = cluster.start_gateway()
    cluster.wait_for_workers(1, late)
    assert late.predict("trick_model", [{"nonce": 3}]).json()["prediction"] == [answer_of(3)]


def test_high_priority_is_served(cluster: Cluster) -> None:
    for priority in ("high", "normal"):
        answer = cluster.gateway.predict("trick_model", [{"nonce": 4}], priority=priority)
        assert answer.json()["prediction"] == [answer_of(4)]


def test_row_5_killed_workers_cost_no_answer(cluster: Cluster) -> None:
    cluster.start_worker()
    cluster.wait_for_workers(2)

    def replace_one() -> bool:
        victim = cluster.workers.pop(0)
        victim.process.kill()
        cluster.start_worker()
        return True

    ledger = Ledger(cluster.gateway.url, trick={"act": "work", "seconds": 0.01})
    ledger.run_until(Every(0.5, 3, replace_one))
    assert set(ledger.statuses) == {200}, ledger
    assert (ledger.lost, ledger.wrong) == (0, 0)
    redelivered = [
        w.metric("modelyard_broker_events_total", event="redelivered") for w in cluster.workers
    ]
    assert sum(redelivered) > 0


def test_row_6_a_worker_that_is_told_to_stop_finishes(cluster: Cluster) -> None:
    kept = cluster.start_worker()
    cluster.wait_for_workers(2)
    codes: list[int] = []

    def stop_one() -> bool:
        codes.append(cluster.workers[0].stop())
        return True

    ledger = Ledger(cluster.gateway.url, trick={"act": "work", "seconds": 0.01})
    ledger.run_until(Every(0.5, 1, stop_one))
    assert codes == [0]
    assert set(ledger.statuses) == {200}, ledger
    assert (ledger.lost, ledger.wrong) == (0, 0)
    assert kept.metric("modelyard_broker_events_total", event="redelivered") == 0


def test_row_7_a_frozen_workers_answers_come_late_and_are_dropped(cluster: Cluster) -> None:
    frozen = cluster.workers[0]
    os.kill(frozen.process.pid, signal.SIGSTOP)
    try:
        late = cluster.gateway.predict("trick_model", [{"nonce": 1}], timeout_s=1)
        assert late.status_code == 504
    finally:
        os.kill(frozen.process.pid, signal.SIGCONT)
    cluster.start_worker()
    assert cluster.gateway.predict("trick_model", [{"nonce": 2}]).status_code == 200


@pytest.mark.own_broker
async def test_row_9_junk_on_the_reply_queue_reaches_nobody(cluster: Cluster) -> None:
    queues = [
        line.split("\t")[0]
        for line in cluster.broker.control("list_queues", "name").splitlines()
        if line.startswith("replies.")
    ]
    forged = envelope.encode([envelope.Answer(key, b"[666]") for key in range(100_000, 100_010)])
    connection = await aio_pika.connect(cluster.broker.url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(REPLIES)
        for queue in queues:
            for kind, body in [
                ("nonsense", b"x"),
                (envelope.ANSWERS, b"\xff\xff"),
                (envelope.ANSWERS, forged),
                (envelope.REFUSAL, envelope.encode(("x",))),
            ]:
                await exchange.publish(aio_pika.Message(body, type=kind), queue, mandatory=False)
    answers = [cluster.gateway.predict("trick_model", [{"nonce": n}]) for n in range(20)]
    assert [a.json()["prediction"] for a in answers] == [[answer_of(n)] for n in range(20)]
    gateway = cluster.gateway
    assert gateway.metric("modelyard_broker_events_total", event="orphan") >= 2
    assert gateway.metric("modelyard_broker_events_total", event="late") >= 10


async def test_row_29_an_envelope_of_another_version_is_refused_not_dropped(
    cluster: Cluster,
) -> None:
    connection = await aio_pika.connect(cluster.broker.url)
    async with connection:
        channel = await connection.channel()
        mine = await channel.declare_queue(exclusive=True)
        await mine.bind(REPLIES, mine.name)
        exchange = await channel.get_exchange(REQUESTS)
        odd = aio_pika.Message(
            b"future", type="modelyard.bundle.99", reply_to=mine.name, correlation_id="c"
        )
        await exchange.publish(odd, QUEUE)
        reply = await mine.get(timeout=30, fail=False) or await _next(mine)
    assert reply.type == envelope.REFUSAL
    assert reply.correlation_id == "c"
    assert "modelyard.bundle.99" in envelope.decode_refusal(reply.body).detail


async def _next(queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage:
    async with queue.iterator(timeout=30) as messages:
        async for message in messages:
            return message
    raise AssertionError("no reply came")


def test_row_10_a_gateway_that_is_told_to_stop_finishes(cluster: Cluster) -> None:
    leaving = cluster.start_gateway()
    cluster.wait_for_workers(1, leaving)
    working = {"nonce": 1, "act": "work", "seconds": 1.0}
    body = json.dumps({"model_name": "trick_model", "input_data": [working]}).encode()

    async def stop_while_it_works() -> int:
        asked = asyncio.create_task(ask_at_once(leaving.url, request_bytes(body), 1))
        await asyncio.to_thread(
            wait_until, lambda: leaving.metric("modelyard_in_flight") == 1, what="it to run"
        )
        code = await asyncio.to_thread(leaving.stop)
        (answer,) = await asked
        assert answer.json["prediction"] == [answer_of(1)]
        return code

    assert asyncio.run(stop_while_it_works()) == 0


@pytest.mark.own_broker
def test_row_13_a_killed_broker_loses_nothing(tmp_path: Path, stack: ExitStack) -> None:
    broker = stack.enter_context(Broker(tmp_path))
    cluster = Cluster(broker, stack)
    cluster.start_worker()
    cluster.wait_for_workers(1)

    def kill_and_start() -> bool:
        broker.kill()
        broker.start()
        wait_until(
            lambda: cluster.gateway.predict("trick_model", [{"nonce": 1}]).status_code == 200,
            what="answers again",
        )
        return True

    ledger = Ledger(cluster.gateway.url, connections=8, timeout_s=20)
    ledger.run_until(Every(0.5, 1, kill_and_start))
    assert set(ledger.statuses) <= {200, 503, 504}, ledger
    assert ledger.statuses[200] > 0
    assert (ledger.lost, ledger.wrong) == (0, 0)
    assert cluster.gateway.metric("modelyard_broker_events_total", event="resent") > 0


@pytest.mark.own_broker
def test_row_12_and_16_a_restarted_broker_and_a_deleted_queue(
    tmp_path: Path, stack: ExitStack
) -> None:
    broker = stack.enter_context(Broker(tmp_path))
    cluster = Cluster(broker, stack)
    cluster.start_worker()
    cluster.wait_for_workers(1)
    for fault in (["delete_queue", QUEUE], ["stop_app"], ["start_app"]):
        broker.control(*fault)
    wait_until(
        lambda: cluster.gateway.predict("trick_model", [{"nonce": 1}]).status_code == 200,
        what="answers again",
    )
    broker.control("delete_queue", QUEUE)
    wait_until(
        lambda: cluster.gateway.predict("trick_model", [{"nonce": 2}]).status_code == 200,
        what="answers from a new queue",
    )


def test_row_19_what_expired_in_the_queue_does_not_run(cluster: Cluster, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    cluster.workers[0].process.kill()  # and the gateway still thinks that it is up
    late = cluster.gateway.predict(
        "trick_model", [{"nonce": 1, "diary": str(diary)}], timeout_s=0.5
    )
    assert late.status_code == 504
    cluster.start_worker()
    wait_until(
        lambda: cluster.gateway.predict("trick_model", [{"nonce": 2}]).status_code == 200,
        what="the new worker",
    )
    assert not diary.exists()


def test_a_large_request_gets_through_and_a_larger_one_does_not(cluster: Cluster) -> None:
    many = [{"nonce": n, "diary": ""} for n in range(220_000)]
    body = json.dumps({"model_name": "trick_model", "input_data": many}).encode()
    assert len(body) > 6 * 1024 * 1024
    headers = {"content-type": "application/json"}
    answer = cluster.gateway.http.post("/predict", content=body, headers=headers)
    assert answer.json()["prediction"] == [answer_of(n) for n in range(220_000)]
    refused = cluster.gateway.http.post(
        "/predict", content=body + b" " * (1 << 22), headers=headers
    )
    assert refused.status_code == 413
