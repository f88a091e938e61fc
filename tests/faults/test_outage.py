"""A broker that is away, as clients see it that connect anew for each request.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick, sessions_lost
from tests.support.ledger import answer_of
from tests.support.server import wait_until

pytestmark = pytest.mark.own_broker


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with a broker of its own, whose model's answers are cached."""
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        folder = copy_trick(tmp_path, ttl_s=300)
        yield with_a_worker(Cluster(broker, stack, folder=folder))


def ask_anew(url: str, nonce: int, *, timeout_s: float) -> httpx.Response:
    """Ask on a connection of its own."""
    body = {"model_name": "trick_model", "input_data": [{"nonce": nonce}], "timeout_s": timeout_s}
    return httpx.post(f"{url}/predict", json=body, timeout=60)


def test_row_31_a_gateway_stays_ready_while_the_broker_is_away(own: Cluster) -> None:
    url = own.gateway.url
    assert own.ask(1).json()["prediction"] == [answer_of(1)]
    own.broker.control("stop_app")
    wait_until(lambda: sessions_lost(own.gateway) >= 1, what="the loss")
    ready = httpx.get(f"{url}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "no broker")
    known = [ask_anew(url, 1, timeout_s=5) for _ in range(20)]
    assert {(answer.status_code, answer.headers["x-cache"]) for answer in known} == {(200, "hit")}
    late = ask_anew(url, 2, timeout_s=0.5)
    assert (late.status_code, late.json()["code"]) == (503, "unavailable")
    assert int(late.headers["retry-after"]) >= 1
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(ask_anew, url, nonce, timeout_s=60) for nonce in range(10, 30)]
        wait_until(lambda: own.gateway.metric("modelyard_in_flight") == 20, what="all of them")
        own.broker.control("start_app")
        answers = [future.result().json()["prediction"] for future in waiting]
    assert answers == [[answer_of(nonce)] for nonce in range(10, 30)]
    wait_until(
        lambda: httpx.get(f"{url}/readyz").json()["status"] == "ready", what="a broker again"
    )


def test_a_gateway_that_never_saw_the_broker_is_not_ready(own: Cluster, stack: ExitStack) -> None:
    own.broker.control("stop_app")
    gateway = stack.enter_context(own.member("gateway"))
    ready = gateway.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "no broker")
    refused = gateway.predict("trick_model", [{"nonce": 1}])
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    own.broker.control("start_app")
    wait_until(lambda: gateway.http.get("/readyz").status_code == 200, what="the catalog")
    assert gateway.predict("trick_model", [{"nonce": 1}]).json()["prediction"] == [answer_of(1)]


def test_only_more_than_a_model_takes_is_refused_at_once(tmp_path: Path, stack: ExitStack) -> None:
    folder = copy_trick(tmp_path)
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace("max_in_flight = 200", "max_in_flight = 3"))
    broker = stack.enter_context(Broker(tmp_path / "broker"))
    own = with_a_worker(Cluster(broker, stack, folder=folder))
    own.broker.control("stop_app")
    wait_until(lambda: sessions_lost(own.gateway) >= 1, what="the loss")
    with ThreadPoolExecutor(3) as threads:
        waiting = [
            threads.submit(ask_anew, own.gateway.url, nonce, timeout_s=60) for nonce in range(3)
        ]
        wait_until(lambda: own.gateway.metric("modelyard_in_flight") == 3, what="all of them")
        began = time.monotonic()
        refused = own.ask(9, timeout_s=60)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert time.monotonic() - began < 30, "it waited for the broker"
        own.broker.control("start_app")
        assert [future.result().status_code for future in waiting] == [200] * 3
