"""A broker that is away, as clients see it that connect anew for each request.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick, sessions_lost
from tests.support.ledger import answer_of
from tests.support.server import ROOT, Member, wait_until
from tests.support.streams import open_stream, streamed, whole

pytestmark = pytest.mark.own_broker

STREAM_MODEL = ROOT / "tests" / "models" / "stream_model"


@pytest.fixture
def own(tmp_path: Path, stack: ExitStack) -> Cluster:
    """A cluster with a broker of its own. Its model's answers are cached, and it takes 20 requests
    at once; another gives its answers in pieces.
    """
    broker = stack.enter_context(Broker(tmp_path / "broker"))
    folder = copy_trick(tmp_path, ttl_s=300)
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace("max_in_flight = 200", "max_in_flight = 20"))
    cluster = with_a_worker(Cluster(broker, stack, folder=folder))
    cluster.start_worker(folder=STREAM_MODEL)
    wait_until(lambda: serves_streams(cluster.gateway), what="the other model")
    return cluster


def serves_streams(gateway: Member) -> bool:
    found = gateway.http.get("/models/stream_model").json().get("versions", [])
    return bool(found) and found[0]["capacity"]["runners_ready"] == 1


def ask_anew(url: str, nonce: int, *, timeout_s: float) -> httpx.Response:
    """Ask on a connection of its own."""
    body = {"model_name": "trick_model", "input_data": [{"nonce": nonce}], "timeout_s": timeout_s}
    return httpx.post(f"{url}/predict", json=body, timeout=60)


def test_row_31_a_gateway_stays_ready_while_the_broker_is_away(
    own: Cluster, stack: ExitStack
) -> None:
    assert own.ask(1).json()["prediction"] == [answer_of(1)]
    stop_amid_a_stream(own)
    later = stack.enter_context(own.member("gateway"))
    check_one_that_never_saw_the_broker(later)
    check_what_is_asked_and_known_meanwhile(own)
    wait_until(
        lambda: httpx.get(f"{own.gateway.url}/readyz").json()["status"] == "ready",
        what="a broker again",
    )
    wait_until(lambda: later.http.get("/readyz").status_code == 200, what="the catalog")
    assert later.predict("trick_model", [{"nonce": 2}]).json()["prediction"] == [answer_of(2)]
    assert streamed(own.gateway, "stream_model", {"nonce": 1}) == whole(1)


def stop_amid_a_stream(own: Cluster) -> None:
    """Stop the broker: what has begun ends, and says so."""
    long = {"nonce": 6, "pause_s": 0.1, "pieces": 900}
    with open_stream(own.gateway, "stream_model", long) as (_, events):
        next(events)
        own.broker.control("stop_app")
        *_, last = events
        assert (last.kind, last.data["code"]) == ("error", "stream_broken")
    wait_until(lambda: sessions_lost(own.gateway) >= 1, what="the loss")


def check_one_that_never_saw_the_broker(gateway: Member) -> None:
    ready = gateway.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "no broker")
    refused = gateway.predict("trick_model", [{"nonce": 1}])
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


def check_what_is_asked_and_known_meanwhile(own: Cluster) -> None:
    """See that only more than the model takes is refused at once, and the rest waits."""
    url = own.gateway.url
    ready = httpx.get(f"{url}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "no broker")
    known = [ask_anew(url, 1, timeout_s=5) for _ in range(20)]
    assert {(answer.status_code, answer.headers["x-cache"]) for answer in known} == {(200, "hit")}
    late = ask_anew(url, 3, timeout_s=0.5)
    assert (late.status_code, late.json()["code"]) == (503, "unavailable")
    assert int(late.headers["retry-after"]) >= 1
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(ask_anew, url, nonce, timeout_s=60) for nonce in range(10, 30)]
        wait_until(lambda: own.gateway.metric("modelyard_in_flight") == 20, what="all of them")
        began = time.monotonic()
        refused = own.ask(9, timeout_s=60)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert time.monotonic() - began < 30, "it waited for the broker"
        own.broker.control("start_app")
        answers = [future.result().json()["prediction"] for future in waiting]
    assert answers == [[answer_of(nonce)] for nonce in range(10, 30)]
