"""Answers in pieces through a real broker, and callers who leave."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.server import ROOT, Member, wait_until
from tests.support.streams import open_stream, streamed, whole

STREAM_MODEL = ROOT / "tests" / "models" / "stream_model"


def serving(gateway: Member, workers: int) -> bool:
    """Return whether a gateway knows of so many runners of ``stream_model``."""
    found = gateway.http.get("/models/stream_model").json().get("versions", [])
    return bool(found) and found[0]["capacity"]["runners_ready"] == workers


@pytest.fixture
def streams(broker: Broker, stack: ExitStack) -> Cluster:
    """A gateway, and a worker of ``stream_model``."""
    cluster = Cluster(broker, stack, folder=STREAM_MODEL)
    cluster.start_worker()
    wait_until(lambda: serving(cluster.gateway, 1), what="the worker")
    return cluster


def test_pieces_come_through_the_broker(streams: Cluster) -> None:
    gateway = streams.gateway
    assert streamed(gateway, "stream_model", {"nonce": 7}) == whole(7)
    assert streamed(gateway, "stream_model", {"nonce": 7, "pieces": 2000}) == whole(7, 2000)
    with ThreadPoolExecutor(20) as threads:
        asked = [
            threads.submit(streamed, gateway, "stream_model", {"nonce": nonce, "pieces": 200})
            for nonce in range(40)
        ]
        assert [one.result() for one in asked] == [whole(nonce, 200) for nonce in range(40)]
    *pieces, last = streamed(gateway, "stream_model", {"nonce": 1, "act": "raise", "after": 2})
    assert (len(pieces), last.kind, last.data["code"]) == (2, "error", "model_failed")
    body = {"model_name": "stream_model", "input_data": [{"nonce": 1, "act": "refuse"}]}
    refused = gateway.http.post("/predict", json=body, headers={"accept": "application/jsonl"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    assert gateway.predict("stream_model", [{"nonce": 2}]).json()["prediction"][0][0] == 7


def test_the_model_is_told_through_the_broker_that_its_reader_has_left(
    streams: Cluster, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    instance = {"nonce": 9, "pause_s": 0.1, "pieces": 1000, "diary": str(diary)}
    with open_stream(streams.gateway, "stream_model", instance) as (_, events):
        next(events)
    wait_until(lambda: "9 over " in diary.read_text(), what="the stream to be closed")
    with httpx.Client(base_url=streams.gateway.url, timeout=1) as http:
        body = {"model_name": "stream_model", "input_data": [{**instance, "pause_s": 19}]}
        with pytest.raises(httpx.ReadTimeout):
            http.post("/predict", json=body)
    wait_until(lambda: "9 left" in diary.read_text(), what="the call to be cancelled")
    with open_stream(streams.gateway, "stream_model", {**instance, "nonce": 8}) as (_, events):
        next(events)
        streams.gateway.process.kill()
        wait_until(lambda: "8 over " in diary.read_text(), what="the gateway to be missed")


def test_a_worker_that_dies_is_seen_only_after_the_first_piece(
    streams: Cluster, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    late = {"nonce": 5, "pause_s": 1, "pieces": 2, "diary": str(diary)}
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(streamed, streams.gateway, "stream_model", late)
        wait_until(diary.exists, what="the stream to begin")
        streams.workers[0].process.kill()
        streams.start_worker()
        assert asked.result() == whole(5, 2)
    assert diary.read_text().count("5 begun") == 2
    begun = {"nonce": 6, "pause_s": 0.1, "pieces": 1000}
    with open_stream(streams.gateway, "stream_model", begun) as (_, events):
        first = next(events)
        streams.workers[1].process.kill()
        streams.start_worker()
        *pieces, last = events
    assert [first, *pieces] == whole(6, 1000)[: len(pieces) + 1]
    assert (last.kind, last.data["code"]) == ("error", "stream_broken")
    assert streamed(streams.gateway, "stream_model", {"nonce": 1}) == whole(1)


def test_what_nobody_waits_for_any_more_does_not_run(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    cluster = with_a_worker(Cluster(broker, stack))
    (worker,) = cluster.workers
    diary = tmp_path / "diary"
    wait = {"nonce": 1, "act": "wait", "diary": str(diary)}
    url = cluster.gateway.url

    async def ask_and_leave() -> None:
        async with httpx.AsyncClient(base_url=url, limits=httpx.Limits()) as http:

            async def ask(nonce: int) -> None:
                instances = [{"nonce": nonce, "diary": str(diary)}]
                body = {"model_name": "trick_model", "input_data": instances}
                with pytest.raises(httpx.ReadTimeout):
                    await http.post("/predict", json=body, timeout=3)

            await asyncio.gather(*map(ask, range(100, 290)))

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(cluster.gateway.predict, "trick_model", [wait])
        wait_until(diary.exists, what="the runner to be taken")
        asyncio.run(ask_and_leave())
        wait_until(
            lambda: cluster.gateway.metric("modelyard_in_flight") == 1, what="all to have left"
        )
        departed = partial(worker.metric, "modelyard_broker_events_total", event="departed")
        wait_until(lambda: departed() > 0, what="the worker to be told")
        Path(f"{diary}.go").touch()
        assert first.result().status_code == 200
    assert cluster.ask(2).status_code == 200
    ran = len(diary.read_text().split()) - 1
    assert ran <= 2 * 16, "more ran than the batches that the notices came too late for"
