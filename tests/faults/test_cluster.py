"""The cluster shape without faults: models come and go, priorities, sizes."""

from __future__ import annotations

import json
from contextlib import ExitStack

from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.ledger import answer_of


def test_a_new_model_appears_and_a_stopped_one_gets_503_at_once(
    steady: Cluster, stack: ExitStack
) -> None:
    answer = steady.gateway.predict("trick_model", [{"nonce": 1}])
    assert answer.json()["prediction"] == [answer_of(1)]
    steady.workers[0].stop()
    steady.wait_for_workers(0)
    refused = steady.gateway.predict("trick_model", [{"nonce": 1}])
    assert refused.status_code == 503
    assert refused.json()["code"] == "model_not_ready"
    assert "retry-after" in refused.headers
    steady.start_worker()
    steady.wait_for_workers(1)
    assert steady.gateway.predict("trick_model", [{"nonce": 2}]).status_code == 200
    late = steady.start_gateway(stack=stack)
    steady.wait_for_workers(1, late)
    assert late.predict("trick_model", [{"nonce": 3}]).json()["prediction"] == [answer_of(3)]


def test_high_priority_is_served(steady: Cluster) -> None:
    for priority in ("high", "normal"):
        answer = steady.gateway.predict("trick_model", [{"nonce": 4}], priority=priority)
        assert answer.json()["prediction"] == [answer_of(4)]


def test_a_large_request_gets_through_and_a_larger_one_does_not(steady: Cluster) -> None:
    many = [{"nonce": n, "diary": ""} for n in range(220_000)]
    body = json.dumps({"model_name": "trick_model", "input_data": many}).encode()
    assert len(body) > 6 * 1024 * 1024
    headers = {"content-type": "application/json"}
    answer = steady.gateway.http.post("/predict", content=body, headers=headers)
    assert answer.json()["prediction"] == [answer_of(n) for n in range(220_000)]
    refused = steady.gateway.http.post("/predict", content=body + b" " * (1 << 22), headers=headers)
    assert refused.status_code == 413


def test_what_no_broker_takes_is_refused_whatever_the_limit_says(
    steady: Cluster, broker: Broker, stack: ExitStack
) -> None:
    cluster = Cluster(broker, stack, MODELYARD_MAX_BODY_BYTES=str(64 << 20))
    cluster.wait_for_workers(1)
    many = [{"nonce": 1, "diary": " " * (1 << 20)}] * 17
    refused = cluster.gateway.predict("trick_model", many)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert cluster.ask(1).json()["prediction"] == [answer_of(1)]
