"""Queues that are full, gone, or hold what has expired.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import aio_pika
import pytest

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import QUEUE, Cluster, copy_trick, events, sessions
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.raw import ask_at_once, request_bytes
from tests.support.server import wait_until


@pytest.mark.own_broker
def test_row_16_a_queue_that_is_deleted_idle_or_under_load_costs_at_most_a_short_503(
    cluster: Cluster,
) -> None:
    (worker,) = cluster.workers

    def delete() -> bool:
        before = sessions(worker)
        cluster.broker.control("delete_queue", QUEUE)
        wait_until(lambda: sessions(worker) > before, what="a new session")
        return True

    def delete_under_load() -> bool:
        delete()
        answered = ledger.statuses[200]
        wait_until(lambda: ledger.statuses[200] > answered + 20, what="more answers")
        return True

    delete()
    cluster.wait_until_serving()
    ledger = Ledger(cluster.gateway.url, connections=8, timeout_s=10)
    ledger.run_until(Every(0.3, 2, delete_under_load))
    ledger.check(503)


def asking(nonce: int, **more: float) -> bytes:
    body = {"model_name": "trick_model", "input_data": [{"nonce": nonce}], **more}
    return request_bytes(json.dumps(body).encode())


@pytest.mark.own_broker
async def test_row_18_a_full_queue_refuses_and_says_when_to_come_again(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    folder = copy_trick(tmp_path, max_batch_size=1)  # and so one request in a bundle
    cluster = await asyncio.to_thread(with_a_worker, Cluster(broker, stack, folder=folder))
    gateway, (worker,) = cluster.gateway, cluster.workers
    limit = json.dumps({"max-length": 5, "overflow": "reject-publish"})
    policy = ("full", "^infer[.]", limit, "--apply-to", "queues")
    await asyncio.to_thread(broker.control, "set_policy", *policy)
    try:
        with worker.frozen():  # so that the queue fills
            asked = asyncio.create_task(ask_at_once(gateway.url, asking(1, timeout_s=30), 200))
            await asyncio.to_thread(
                wait_until, lambda: events("nacked", gateway) >= 150, what="refusals"
            )
        answers = await asked
    finally:
        await asyncio.to_thread(broker.control, "clear_policy", "full")
    statuses = Counter(answer.status for answer in answers)
    print(statuses)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 5
    for answer in answers:
        if answer.status == 200:
            assert answer.json["prediction"] == [answer_of(1)]
        else:
            assert answer.json["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) > 0


async def test_row_17_what_no_queue_takes_is_refused_at_once(doomed: Cluster) -> None:
    gateway, (worker,) = doomed.gateway, doomed.workers
    connection = await aio_pika.connect(doomed.broker.url)
    async with connection:
        channel = await connection.channel()
        worker.process.kill()  # the gateway still thinks that it is up
        await channel.queue_delete(QUEUE)
    answers = await ask_at_once(gateway.url, asking(1), 50)
    assert Counter(answer.status for answer in answers) == {503: 50}
    assert {answer.json["code"] for answer in answers} == {"model_not_ready"}
    assert all("retry-after" in answer.headers for answer in answers)
    assert await asyncio.to_thread(events, "returned", gateway) > 0


def test_row_19_what_expired_in_the_queue_does_not_run(doomed: Cluster, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    doomed.workers[0].process.kill()  # and the gateway still thinks that it is up
    late = doomed.ask(1, timeout_s=0.5, diary=str(diary))
    assert late.status_code == 504
    doomed.start_worker()
    doomed.wait_until_serving()
    assert not diary.exists()
