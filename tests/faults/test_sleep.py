"""Targets without a worker: who sleeps is waited for, who cannot load takes no work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.cluster import QUEUE, Cluster, copy_trick
from tests.support.ledger import answer_of
from tests.support.server import Member, wait_until


@pytest.fixture(scope="module")
def running(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose only model may scale to zero."""
    folder = copy_trick(tmp_path_factory.mktemp("sleep"))
    with (folder / "model.toml").open("a") as manifest:
        manifest.write("\n[scaling]\nscale_to_zero = true\n")
    with ExitStack() as stack:
        cluster = Cluster(broker, stack, folder=folder)
        cluster.start_worker()
        cluster.wait_for_workers(1)
        yield cluster


@pytest.fixture
def sleeper(running: Cluster) -> Cluster:
    """Its model has scaled to zero."""
    while running.workers:
        running.workers.pop().stop()
    wait_until(lambda: state_at(running.gateway) == "asleep", what="the sleep")
    return running


def state_at(gateway: Member) -> str:
    versions = gateway.http.get("/models/trick_model").json().get("versions", [])
    return versions[0]["state"] if versions else "unknown"


def test_a_request_for_a_target_that_sleeps_waits_until_it_is_woken(sleeper: Cluster) -> None:
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(sleeper.ask, 1)
        wait_until(lambda: sleeper.gateway.metric("modelyard_in_flight") == 1, what="the request")
        sleeper.start_worker()
    assert asked.result().json()["prediction"] == [answer_of(1)]


def test_a_request_for_a_target_that_nobody_wakes_gets_its_504(sleeper: Cluster) -> None:
    assert sleeper.ask(1, timeout_s=0.3).status_code == 504


def test_a_gateway_that_starts_later_learns_what_sleeps(sleeper: Cluster, stack: ExitStack) -> None:
    later = sleeper.start_gateway(stack=stack)
    wait_until(lambda: state_at(later) == "asleep", what="the word of the other gateway")


def test_a_request_wakes_what_sleeps_also_when_no_gateway_was_up_since(
    sleeper: Cluster,
) -> None:
    sleeper.gateway.stop()
    sleeper.gateway = sleeper.start_gateway()
    assert state_at(sleeper.gateway) == "asleep"
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(sleeper.ask, 1)
        wait_until(lambda: sleeper.gateway.metric("modelyard_in_flight") == 1, what="the request")
        sleeper.start_worker()
    assert asked.result().json()["prediction"] == [answer_of(1)]


@pytest.mark.own_broker
def test_a_target_whose_queue_is_deleted_is_gone(sleeper: Cluster) -> None:
    sleeper.broker.control("delete_queue", QUEUE)
    refused = sleeper.ask(1)
    assert refused.status_code == 503
    assert refused.json()["code"] == "model_not_ready"
    assert state_at(sleeper.gateway) == "stopped"


def test_a_worker_that_cannot_load_takes_nothing_from_one_that_can(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    cluster = Cluster(broker, stack)
    cluster.start_worker()
    cluster.wait_for_workers(1)
    broken = copy_trick(tmp_path)
    (broken / "src" / "model.py").write_text("raise ValueError('broken on purpose')\n")
    with cluster.worker_of(broken) as worker:
        wait_until(
            lambda: "broken on purpose" in worker.output,
            what="the failure",
        )
        answers = [cluster.ask(nonce) for nonce in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20
