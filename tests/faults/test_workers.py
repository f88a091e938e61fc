"""Workers that die, stop, freeze or change under load.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import aio_pika
import pytest

from modelyard.transports.amqp.announcer import EVERY_S
from modelyard.transports.amqp.topology import CATALOG
from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick, events, sessions
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.proxy import Proxy
from tests.support.server import Member, wait_for_the_end_of, wait_until

WORK = {"act": "work", "seconds": 0.01}
HEARTBEAT_S = 3
MISSED = "missed heartbeats"


def test_row_6_a_worker_that_is_told_to_stop_finishes(cluster: Cluster) -> None:
    leaving, kept = cluster.workers[0], cluster.start_worker()
    cluster.wait_for_workers(2)
    codes: list[int] = []

    def stop_one() -> bool:
        codes.append(leaving.stop())
        return True

    ledger = Ledger(cluster.gateway.url, connections=8, trick=WORK)
    ledger.run_until(Every(0.5, 1, stop_one))
    ledger.check()
    assert codes == [0]  # and within PATIENCE_S
    assert events("redelivered", kept) == 0


def test_a_second_signal_waits_for_no_request(
    broker: Broker, gateway: Member, stack: ExitStack, tmp_path: Path
) -> None:
    cluster = with_a_worker(Cluster(broker, stack, gateway, MODELYARD_DRAIN_S="600"))
    (worker,), diary = cluster.workers, tmp_path / "diary"
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(cluster.ask, 1, act="wait", diary=str(diary), timeout_s=200)
        wait_until(diary.exists, what="it to run")
        worker.process.terminate()
        wait_until(lambda: '"draining"' in worker.output, what="the drain")
        assert worker.stop() == 0
        Path(f"{diary}.go").touch()
        cluster.start_worker()
        assert asked.result().json()["prediction"] == [answer_of(1)]


def test_row_7_a_frozen_workers_answers_come_late_and_are_dropped(
    cluster: Cluster, tmp_path: Path
) -> None:
    (worker,), diary = cluster.workers, tmp_path / "diary"
    late = events("late", cluster.gateway)
    with worker.frozen():
        assert cluster.ask(1, timeout_s=1, diary=str(diary)).status_code == 504
    wait_until(lambda: events("late", cluster.gateway) == late + 1, what="the late answer")
    assert not diary.exists(), "its deadline had passed"
    assert cluster.ask(2).json()["prediction"] == [answer_of(2)]


@pytest.mark.own_broker
def test_row_27_versions_switch_under_load(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    """To a newer version, and back to an older one: whoever serves is the default.

    The gateway hears a little late that the old one goes.
    """
    proxy = stack.enter_context(Proxy(broker.port))
    cluster = with_a_worker(Cluster(broker, stack, url=broker.url_through(proxy.port)))
    proxy.to_client.delay_s = 0.2
    gateway, coming = cluster.gateway, iter(("2", "0"))
    answers: dict[str, Callable[[int], int]]
    answers = {"1": answer_of, "2": lambda nonce: nonce * 3 + 7, "0": lambda nonce: nonce * 3 + 9}
    ledger = Ledger(gateway.url, connections=8, timeout_s=5, answers=answers)

    def is_there(version: str) -> bool:
        found = gateway.http.get("/models/trick_model").json()["versions"]
        return any(v["version"] == version and v["state"] == "ready" for v in found)

    def switch() -> bool:
        version, old = next(coming), cluster.workers[-1]
        offset = answers[version](0)
        cluster.start_worker(folder=copy_trick(tmp_path, version=version, offset=offset))
        wait_until(lambda: is_there(version), what="the new version at the gateway")
        assert old.stop() == 0
        wait_until(lambda: ledger.versions[version] > 100, what="answers of the new version")
        return True

    ledger.run_until(Every(0.2, 2, switch))
    print(ledger.versions)
    ledger.check()
    assert ledger.versions["1"] > 0


@pytest.fixture
def brisk(broker: Broker, stack: ExitStack, gateway: Member) -> Iterator[Cluster]:
    """A cluster whose broker asks for heartbeats so often that a missing one is soon noticed."""
    with ExitStack() as ending:
        ending.callback(broker.control, "eval", "application:set_env(rabbit, heartbeat, 60).")
        broker.control("eval", f"application:set_env(rabbit, heartbeat, {HEARTBEAT_S}).")
        yield with_a_worker(Cluster(broker, stack, gateway))


@pytest.mark.own_broker
async def test_row_4_a_model_that_holds_the_gil_keeps_its_worker_from_nothing(
    brisk: Cluster,
) -> None:
    (worker,), hold_s = brisk.workers, 2 * EVERY_S + 2
    assert hold_s > 3 * HEARTBEAT_S, "the broker would notice"
    before, known, missed = sessions(worker), 0, brisk.broker.log().count(MISSED)
    async with await aio_pika.connect(brisk.broker.url) as connection:
        channel = await connection.channel()
        statuses = await channel.declare_queue(exclusive=True)
        await statuses.bind(CATALOG, "")
        asked = asyncio.create_task(asyncio.to_thread(brisk.ask, 1, act="hold_gil", seconds=hold_s))
        await asyncio.sleep(1)
        await statuses.purge()  # that it has work is over
        while not asked.done():
            answer = await asyncio.to_thread(worker.http.get, "/readyz")
            assert answer.status_code == 200
            await asyncio.to_thread(brisk.wait_for_workers, 1)
            known += 1
            await asyncio.sleep(0.05)
        assert (await asked).json()["prediction"] == [answer_of(1)]
        said = await channel.declare_queue(statuses.name, passive=True)
    assert known > 10
    assert (said.declaration_result.message_count or 0) >= 2, "it goes on to announce itself"
    assert sessions(worker) == before
    assert brisk.broker.log().count(MISSED) == missed


@pytest.mark.own_broker
def test_row_7_what_a_frozen_worker_holds_is_answered_elsewhere(brisk: Cluster) -> None:
    cluster, missed = brisk, brisk.broker.log().count(MISSED)
    worker, other = cluster.workers[0], cluster.start_worker()
    cluster.wait_for_workers(2)
    ledger = Ledger(cluster.gateway.url, connections=8, timeout_s=60, trick=WORK)

    def freeze() -> bool:
        with worker.frozen():
            wait_until(lambda: events("redelivered", other) > 0, what="the broker to give it up")
        return True

    ledger.run_until(Every(0.5, 1, freeze))
    ledger.check()
    wait_until(lambda: cluster.broker.log().count(MISSED) > missed, what="the broker to say why")
    wait_until(lambda: worker.http.get("/readyz").status_code == 200, what="the thawed worker")


def test_row_5_killed_workers_cost_no_answer(doomed: Cluster) -> None:
    doomed.start_worker()
    doomed.wait_for_workers(2)
    redelivered = []

    def replace_one() -> bool:
        victim = doomed.workers.pop(0)
        redelivered.append(events("redelivered", victim))
        runners = victim.runners()
        for pid in (victim.process.pid, *(runner.pid for runner in runners)):
            os.kill(pid, signal.SIGKILL)
        doomed.start_worker()
        return True

    ledger = Ledger(doomed.gateway.url, connections=8, trick=WORK)
    ledger.run_until(Every(0.5, 3, replace_one))
    ledger.check()
    assert sum(redelivered) + events("redelivered", *doomed.workers) > 0


def test_no_runner_survives_its_worker(doomed: Cluster) -> None:
    (worker,) = doomed.workers
    runners = worker.runners()
    assert runners
    worker.process.kill()
    wait_for_the_end_of(runners)
