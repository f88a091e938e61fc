"""Traces through a real broker, as a collector gets them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.collector import Collector
from tests.support.server import Member, wait_until

CALLER = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


@pytest.fixture(scope="module")
def traced(broker: Broker, collector: Collector) -> Iterator[Cluster]:
    """A gateway and a worker that send their traces to the collector."""
    with ExitStack() as stack:
        yield with_a_worker(
            Cluster(
                broker,
                stack,
                MODELYARD_TRACES="otlp",
                MODELYARD_TRACES_URL=collector.url,
                MODELYARD_TRACES_RATE="0",
            )
        )


def ask(gateway: Member, trace_id: str, trick: dict[str, Any], *, flags: str = "01") -> int:
    """Ask as a caller that traces; gives the status."""
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-{flags}", "x-request-id": trace_id}
    return gateway.predict("trick_model", [trick], headers=headers).status_code


def test_one_trace_goes_from_the_caller_to_predict(traced: Cluster, collector: Collector) -> None:
    trace_id = secrets.token_hex(16)
    assert ask(traced.gateway, trace_id, {"nonce": 4}) == 200
    spans = collector.wait_for(
        trace_id, "predict!", "queue", "process", "wait", "batch", "run", "predict"
    )
    assert len(collector.of(trace_id)) == 7
    parents = {name: span.parent_id for name, span in spans.items()}
    ids = {name: span.span_id for name, span in spans.items()}
    assert parents == {
        "predict!": CALLER,
        "queue": ids["predict!"],
        "process": ids["predict!"],
        "wait": ids["process"],
        "batch": ids["process"],
        "run": ids["batch"],
        "predict": ids["run"],
    }
    services = {name: span.service for name, span in spans.items()}
    assert services["predict!"] == "modelyard-gateway"
    assert services["process"] == services["batch"] == "modelyard-worker"
    assert services["predict"] == "modelyard-runner"
    assert all(span.began <= span.ended and not span.error for span in spans.values())
    assert spans["predict!"].attributes["modelyard.request_id"] == trace_id
    assert spans["batch"].attributes["modelyard.attempt"] == 1


def test_only_what_the_caller_traces_is_traced(traced: Cluster, collector: Collector) -> None:
    quiet, asked = secrets.token_hex(16), secrets.token_hex(16)
    assert ask(traced.gateway, quiet, {"nonce": 4}, flags="00") == 200
    assert traced.ask(5).status_code == 200
    assert ask(traced.gateway, asked, {"nonce": 4}) == 200
    before = {span.trace_id for span in collector.spans}
    collector.wait_for(asked, "predict!", "process", "predict")
    assert {span.trace_id for span in collector.spans} - before <= {asked}
    assert not collector.of(quiet)


def test_what_fails_is_recorded_although_nobody_asked_for_it(
    traced: Cluster, collector: Collector
) -> None:
    trace_id = secrets.token_hex(16)
    assert ask(traced.gateway, trace_id, {"nonce": 4, "act": "raise"}, flags="00") == 502
    span = collector.wait_for(trace_id, "predict!")["predict!"]
    assert (span.parent_id, span.error) == (CALLER, "model_failed")
    assert span.attributes["modelyard.recorded_afterwards"]


def test_a_batch_links_the_requests_that_ran_together(
    traced: Cluster, collector: Collector, tmp_path: Path
) -> None:
    wait = {"nonce": 1, "act": "wait", "diary": str(tmp_path / "diary")}
    first, *together = [secrets.token_hex(16) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(ask, traced.gateway, first, wait)]
        wait_until((tmp_path / "diary").exists, what="the runner to be taken")
        asked += [threads.submit(ask, traced.gateway, one, {"nonce": 2}) for one in together]
        wait_until(lambda: traced.gateway.metric("modelyard_in_flight") == 3, what="all of them")
        (tmp_path / "diary.go").touch()
        assert [one.result() for one in asked] == [200] * 3
    batches, runs = [], []
    for trace_id in together:
        spans = collector.wait_for(trace_id, "batch", "run", "predict")
        batches.append(spans["batch"])
        runs.append(spans["run"])
    if batches[0].attributes["modelyard.batch.requests"] == 2:  # else one came too late for it
        assert batches[0].links == [batches[1].span_id]
        assert batches[1].links == [batches[0].span_id]
        assert [len(run.links) for run in runs] == [1, 1]


def test_a_runner_that_ends_and_a_worker_that_dies_are_attempts_of_one_trace(
    traced: Cluster, collector: Collector, tmp_path: Path
) -> None:
    crashing = secrets.token_hex(16)
    (runner,) = traced.workers[0].runners()
    diary = tmp_path / "diary"
    wait = {"nonce": 1, "act": "wait", "diary": str(diary)}
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, traced.gateway, crashing, wait)
        wait_until(diary.exists, what="the request to run")
        runner.kill()
        Path(f"{diary}.go").touch()
        assert asked.result() == 200
    collector.wait_for(crashing, "process", "predict!")
    batches = [span for span in collector.of(crashing) if span.name.startswith("batch")]
    assert [span.attributes["modelyard.attempt"] for span in batches] == [1, 2]
    assert batches[0].error.startswith("the runner ended: ")
    assert not batches[1].error

    dying, diary = secrets.token_hex(16), tmp_path / "other"
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, traced.gateway, dying, {**wait, "diary": str(diary)})
        wait_until(diary.exists, what="the request to run")
        traced.workers[0].process.kill()
        Path(f"{diary}.go").touch()
        traced.start_worker()
        assert asked.result() == 200
    spans = collector.wait_for(dying, "predict!", "process", "batch", "predict")
    assert spans["batch"].attributes["modelyard.attempt"] == 2
