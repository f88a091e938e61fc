"""Workers that die, stop, freeze or change under load.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelyard.transports.amqp.announcer import FORGET_AFTER_S
from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick, events, sessions
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.proxy import Proxy
from tests.support.server import wait_for_the_end_of, wait_until

WORK = {"act": "work", "seconds": 0.01}


def test_row_5_killed_workers_cost_no_answer(cluster: Cluster) -> None:
    cluster.start_worker()
    cluster.wait_for_workers(2)
    redelivered = []

    def replace_one() -> bool:
        victim = cluster.workers.pop(0)
        redelivered.append(events("redelivered", victim))
        runners = victim.runners()
        for pid in (victim.process.pid, *(runner.pid for runner in runners)):
            os.kill(pid, signal.SIGKILL)
        cluster.start_worker()
        return True

    ledger = Ledger(cluster.gateway.url, connections=8, trick=WORK)
    ledger.run_until(Every(0.5, 3, replace_one))
    ledger.check()
    assert sum(redelivered) + events("redelivered", *cluster.workers) > 0


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
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    cluster = with_a_worker(Cluster(broker, stack, MODELYARD_DRAIN_S="600"))
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
    worker, diary = cluster.workers[0], tmp_path / "diary"
    with worker.frozen():
        assert cluster.ask(1, timeout_s=1, diary=str(diary)).status_code == 504
    wait_until(lambda: events("late", cluster.gateway) == 1, what="the late answer")
    assert not diary.exists(), "its deadline had passed"
    assert cluster.ask(2).json()["prediction"] == [answer_of(2)]


@pytest.mark.own_broker
@pytest.mark.parametrize("version", ["2", "0"])
def test_row_27_versions_switch_under_load(
    broker: Broker, stack: ExitStack, tmp_path: Path, version: str
) -> None:
    """To a newer version, and back to an older one: whoever serves is the default.

    The gateway hears a little late that the old one goes.
    """
    proxy = stack.enter_context(Proxy(broker.port))
    cluster = with_a_worker(Cluster(broker, stack, url=broker.url_through(proxy.port)))
    proxy.to_client.delay_s = 0.2
    old, gateway = cluster.workers[0], cluster.gateway
    new = copy_trick(tmp_path, version=version, offset=7)
    answers = {"1": answer_of, version: lambda nonce: nonce * 3 + 7}
    ledger = Ledger(gateway.url, connections=8, timeout_s=5, answers=answers)

    def is_there() -> bool:
        found = gateway.http.get("/models/trick_model").json()["versions"]
        return any(v["version"] == version and v["state"] == "ready" for v in found)

    def switch() -> bool:
        cluster.start_worker(folder=new)
        wait_until(is_there, what="the new version at the gateway")
        assert old.stop() == 0
        wait_until(lambda: ledger.versions[version] > 100, what="answers of the new version")
        return True

    ledger.run_until(Every(0.2, 1, switch))
    print(ledger.versions)
    ledger.check()
    assert ledger.versions["1"] > 0


@pytest.mark.own_broker
def test_row_4_a_model_that_holds_the_gil_keeps_its_worker_from_nothing(cluster: Cluster) -> None:
    (worker,), hold_s = cluster.workers, FORGET_AFTER_S + 2
    before, known = sessions(worker), 0
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(cluster.ask, 1, act="hold_gil", seconds=hold_s)
        while not asked.done():
            assert worker.http.get("/readyz").status_code == 200
            cluster.wait_for_workers(1)  # it goes on to announce itself
            known += 1
    assert asked.result().json()["prediction"] == [answer_of(1)]
    assert known > 10
    assert sessions(worker) == before
    assert "missed heartbeats" not in cluster.broker.log()


@pytest.mark.own_broker
def test_row_7_what_a_frozen_worker_holds_is_answered_elsewhere(cluster: Cluster) -> None:
    worker, other = cluster.workers[0], cluster.start_worker()
    cluster.wait_for_workers(2)
    ledger = Ledger(cluster.gateway.url, connections=8, timeout_s=60, trick=WORK)

    def freeze() -> bool:
        with worker.frozen():
            wait_until(lambda: events("redelivered", other) > 0, what="the broker to give it up")
        return True

    ledger.run_until(Every(0.5, 1, freeze))
    ledger.check()
    wait_until(lambda: "missed heartbeats" in cluster.broker.log(), what="the broker to say why")
    wait_until(lambda: worker.http.get("/readyz").status_code == 200, what="the thawed worker")


def test_no_runner_survives_its_worker(cluster: Cluster) -> None:
    (worker,) = cluster.workers
    runners = worker.runners()
    assert runners
    worker.process.kill()
    wait_for_the_end_of(runners)
