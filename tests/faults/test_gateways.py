"""Gateways that come and go, are asked the same by many, and speak with what is older or newer.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.topology import CATALOG, REPLIES, REQUESTS
from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cache import RedisServer
from tests.support.cluster import QUEUE, Cluster, copy_trick
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.raw import ask_at_once, connect, request_bytes
from tests.support.server import wait_until


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


def test_row_10_gateways_are_replaced_under_load(cluster: Cluster) -> None:
    leaving, staying = cluster.start_gateway(), cluster.gateway
    cluster.wait_for_workers(1, leaving)
    ledger = Ledger(leaving.url, staying.url, connections=8)
    ledger.run_until(Every(0.5, 1, lambda: leaving.stop() == 0))
    ledger.check()


async def test_row_10_a_kept_connection_is_told_before_it_is_closed(cluster: Cluster) -> None:
    """A client that keeps its connection cannot see that the gateway stops. Closing it at once
    would lose what the client sends at that moment.
    """
    leaving = await asyncio.to_thread(cluster.start_gateway)
    await asyncio.to_thread(cluster.wait_for_workers, 1, leaving)
    body = {"model_name": "trick_model", "input_data": [{"nonce": 1}]}
    request = request_bytes(json.dumps(body).encode())

    async with await connect(leaving.url) as kept:
        answer = await kept.ask(request)
        leaving.process.terminate()
        while answer.headers.get("connection") != "close":
            await asyncio.sleep(0.2)  # idle for most of the time, as kept connections are
            answer = await kept.ask(request)
            assert answer.json["prediction"] == [answer_of(1)]


def test_row_25_a_stampede_runs_once_at_each_gateway(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    cluster = with_a_worker(Cluster(broker, stack, folder=copy_trick(tmp_path, ttl_s=60)))
    gateways = [cluster.gateway, cluster.start_gateway()]
    cluster.wait_for_workers(1, gateways[1])
    diary = tmp_path / "diary"
    same = {"nonce": 7, "act": "work", "seconds": 0.5, "diary": str(diary)}
    body = json.dumps({"model_name": "trick_model", "input_data": [same]}).encode()

    async def stampede() -> list[int]:
        asked = (ask_at_once(gateway.url, request_bytes(body), 500) for gateway in gateways)
        answers = [answer for group in await asyncio.gather(*asked) for answer in group]
        assert {tuple(answer.json["prediction"]) for answer in answers} == {(answer_of(7),)}
        return [answer.status for answer in answers]

    assert asyncio.run(stampede()) == [200] * 1000
    assert diary.read_text().splitlines() in (["7"], ["7", "7"])
    for gateway in gateways:
        assert gateway.metric("modelyard_cache_requests_total", use="miss") <= 1


def test_a_release_of_the_same_version_that_is_taken_back_leaves_no_answer_behind(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    redis = stack.enter_context(RedisServer(tmp_path))
    old = copy_trick(tmp_path / "old", ttl_s=60)
    new = copy_trick(tmp_path / "new", ttl_s=60, offset=7)
    cluster = with_a_worker(Cluster(broker, stack, folder=old, MODELYARD_REDIS_URL=redis.url))
    gateways = [cluster.gateway, cluster.start_gateway()]
    asked = range(100)

    def answer(nonce: int) -> Any:
        gateway = gateways[nonce % 2]
        return gateway.predict("trick_model", [{"nonce": nonce}]).json()["prediction"][0]

    released = cluster.start_worker(folder=new)
    for gateway in gateways:
        cluster.wait_for_workers(2, gateway)
    with ThreadPoolExecutor(8) as threads:
        mixed = list(threads.map(answer, asked))
    released.stop()
    for gateway in gateways:
        cluster.wait_for_workers(1, gateway)
    assert [answer(nonce) for nonce in asked] == [answer_of(nonce) for nonce in asked]
    assert mixed != [answer_of(nonce) for nonce in asked], "the new one has answered none"


async def ask_the_worker(
    cluster: Cluster, body: bytes, **more: Any
) -> aio_pika.abc.AbstractIncomingMessage:
    """Put a message into the queue of the worker, and give the reply."""
    async with await aio_pika.connect(cluster.broker.url) as connection:
        channel = await connection.channel()
        mine = await channel.declare_queue(exclusive=True)
        await mine.bind(REPLIES, mine.name)
        exchange = await channel.get_exchange(REQUESTS)
        await exchange.publish(aio_pika.Message(body, reply_to=mine.name, **more), QUEUE)
        return await mine.get(timeout=30, fail=False) or await _next(mine)


async def test_row_29_an_old_worker_refuses_what_a_new_gateway_sends(cluster: Cluster) -> None:
    reply = await ask_the_worker(cluster, b"future", type="modelyard.bundle.99", correlation_id="c")
    assert reply.type == envelope.REFUSAL
    assert reply.correlation_id == "c"
    refusal = envelope.decode_refusal(reply.body)
    assert refusal.code == "unavailable"  # it may be a good request
    assert "modelyard.bundle.99" in refusal.detail
    assert cluster.ask(1).json()["prediction"] == [answer_of(1)]


async def test_a_bundle_that_comes_to_another_s_queue_is_not_answered_there(
    cluster: Cluster,
) -> None:
    """As where its routing key was damaged on the way: its checksum is right."""
    for meant, kind in [
        (QUEUE.replace(":1", ":3"), envelope.REFUSAL),
        (QUEUE, envelope.ANSWERS),
        (None, envelope.ANSWERS),  # from a gateway that does not say it yet
    ]:
        item = envelope.Item(1, "id", memoryview(b'[{"nonce":1}]'), time.time() + 60)
        body = bytes(envelope.encode([item]))
        reply = await ask_the_worker(cluster, body, type=envelope.BUNDLE, app_id=meant)
        assert reply.type == kind


async def test_row_29_an_old_gateway_is_not_misled_by_a_new_worker(cluster: Cluster) -> None:
    connection = await aio_pika.connect(cluster.broker.url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(CATALOG)
        for kind, body in [
            ("modelyard.status.99", b"\xff\xff"),
            (envelope.STATUS, b"\xff\xff"),
            (envelope.STATUS, bytes(envelope.encode({"worker": "new"}))),
            (envelope.CARD, bytes(envelope.encode({"target": "new"}))),
        ]:
            await exchange.publish(aio_pika.Message(body, type=kind), "", mandatory=False)
    for nonce in range(20):
        answer = await asyncio.to_thread(cluster.ask, nonce)
        assert answer.json()["prediction"] == [answer_of(nonce)]
    assert [model["name"] for model in cluster.gateway.http.get("/models").json()["models"]] == [
        "trick_model"
    ]


async def _next(queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage:
    async with queue.iterator(timeout=30) as messages:
        async for message in messages:
            return message
    pytest.fail("no reply came")
