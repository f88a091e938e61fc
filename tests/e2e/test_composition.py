"""Models that call other models."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from modelyard.core.trail import MOST_CALLS
from tests.support.broker import Broker
from tests.support.calling import write_calling, write_chain, write_leaf
from tests.support.cluster import Cluster
from tests.support.keys import Keys
from tests.support.server import MODELYARD, Server, complaint_of, wait_until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def is_ready(server: Server) -> bool:
    return server.http.get("/readyz").status_code == 200


def wait_for_leaf(server: Server) -> None:
    """Wait until the leaf is free again, which may have to be killed for that."""
    fresh = {"cache-control": "no-cache"}
    wait_until(
        lambda: server.predict("leaf", [{"nonce": 2}], headers=fresh).status_code == 200,
        what="leaf",
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """front → middle → leaf, each with one runner."""
    with Server(write_chain(tmp_path_factory.mktemp("models"))) as server:
        wait_until(lambda: is_ready(server), what="the models")
        yield server


def test_a_call_goes_through_a_chain_of_models_and_a_batch_is_one_call(chain: Server) -> None:
    answer = chain.predict("front", [{"nonce": 1}, {"nonce": 2}])
    assert answer.status_code == 200, answer.text
    by = ["front", "middle", "leaf"]
    assert answer.json()["prediction"] == [
        {"nonce": nonce, "by": by, "together": 2} for nonce in (1, 2)
    ]


def test_the_models_tell_whom_they_call_and_cache_nothing(chain: Server) -> None:
    found = {m["name"]: m["versions"][0] for m in chain.http.get("/models").json()["models"]}
    assert {name: version["calls"] for name, version in found.items()} == {
        "front": ["middle"],
        "middle": ["leaf"],
        "waiter": ["leaf"],
        "leaf": [],
    }
    assert found["front"]["cache_ttl_s"] == 0
    assert found["leaf"]["cache_ttl_s"] == 300


@pytest.mark.parametrize(
    ("instance", "more", "status", "code"),
    [
        ({"do": "raise"}, {}, 502, "model_failed"),
        ({"do": "refuse"}, {}, 502, "model_failed"),
        ({"do": "crash"}, {}, 502, "model_failed"),
        ({"do": "stranger"}, {}, 502, "model_failed"),
        ({"seconds": 5}, {"timeout_s": 0.3}, 504, "deadline_exceeded"),
    ],
)
def test_what_goes_wrong_in_a_called_model_is_told_with_its_name(
    chain: Server, instance: dict[str, Any], more: dict[str, Any], status: int, code: str
) -> None:
    answer = chain.predict("middle", [{"nonce": 1, **instance}], **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    called = "stranger" if instance.get("do") == "stranger" else "leaf"
    if status != 504:  # the gateway's own answer may be the first
        assert f"{called}, which middle calls" in answer.json()["detail"]
    wait_for_leaf(chain)


def test_an_async_model_waits_for_many_answers_at_once(chain: Server) -> None:
    def ask(number: int) -> Any:
        return chain.predict("waiter", [{"nonce": number, "seconds": 0.05}]).json()

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, range(64)))
    assert [a["prediction"][0]["nonce"] for a in answers] == list(range(64))
    assert {tuple(a["prediction"][0]["by"]) for a in answers} == {("waiter", "leaf")}
    bad = chain.predict("waiter", [{"nonce": 1, "do": "raise"}])
    assert bad.status_code == 502
    assert "leaf, which waiter calls: the model raised ValueError" in bad.json()["detail"]
    late = chain.predict("waiter", [{"nonce": 1, "seconds": 5}], timeout_s=0.3)
    assert late.status_code == 504
    wait_for_leaf(chain)


def test_a_stream_calls_others_for_longer_than_its_first_piece_may_take(chain: Server) -> None:
    body = {
        "model_name": "waiter",
        "timeout_s": 2,
        "input_data": [{"nonce": 1, "do": "go on", "seconds": 0.1}],
    }
    sse = {"accept": "text/event-stream"}
    with chain.http.stream("POST", "/predict", json=body, headers=sse) as answer:
        assert answer.status_code == 200, answer.read()
        pieces = 0
        for line in answer.iter_lines():
            assert not line.startswith("event: error"), line
            pieces += line.startswith("data:")
            if pieces == 25:
                break


def test_a_bad_instance_does_not_spoil_those_of_others(chain: Server) -> None:
    asks = [{"nonce": n, "do": "raise" if n == 5 else "", "seconds": 0.02} for n in range(12)]
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda ask: chain.predict("front", [ask]).status_code, asks))
    assert answers == [502 if n == 5 else 200 for n in range(12)]


def test_all_go_on_though_every_runner_is_taken_by_one_that_waits(chain: Server) -> None:
    def ask(number: int) -> int:
        name = ("front", "middle", "leaf")[number % 3]
        return chain.predict(name, [{"nonce": number, "seconds": 0.01}]).status_code

    with ThreadPoolExecutor(48) as threads:
        assert set(threads.map(ask, range(600))) == {200}


def test_only_answers_come_while_runners_are_killed(chain: Server) -> None:
    stop, killed = threading.Event(), 0

    def ask(number: int) -> int:
        return chain.predict("front", [{"nonce": number, "seconds": 0.02}]).status_code

    def kill() -> None:
        nonlocal killed
        while not stop.wait(0.5):
            for runner in chain.runners()[killed % 4 :][:1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    runner.kill()
            killed += 1

    statuses: list[int] = []
    with ThreadPoolExecutor(5) as threads:
        killing = threads.submit(kill)
        try:
            while killed < 6:
                statuses += threads.map(ask, range(4))
        finally:
            stop.set()
        killing.result()
    assert set(statuses) == {200}


@pytest.mark.parametrize(
    ("called_by", "text"),
    [
        ("front,other", "in a circle: front → other → front"),
        (",".join("abcdefgh"[:MOST_CALLS]), f"more than {MOST_CALLS} models"),
    ],
)
def test_a_chain_that_does_not_end_is_refused(chain: Server, called_by: str, text: str) -> None:
    answer = chain.predict("front", [{"nonce": 1}], headers={"x-called-by": called_by})
    assert (answer.status_code, answer.json()["code"]) == (508, "calls_too_deep")
    assert text in answer.json()["detail"]


def test_a_stopping_server_lets_the_models_in_flight_call_others(tmp_path: Path) -> None:
    with Server(write_chain(tmp_path)) as server, ThreadPoolExecutor(3) as threads:
        wait_until(lambda: is_ready(server), what="the models")
        asked = [
            threads.submit(server.predict, "front", [{"nonce": nonce, "seconds": 0.7}])
            for nonce in range(3)
        ]
        wait_until(
            lambda: server.http.get("/models/leaf").json()["versions"][0]["capacity"]["in_flight"],
            what="the leaf to be asked",
        )
        assert server.stop() == 0
        assert [one.result().status_code for one in asked] == [200] * 3


def test_models_that_would_wait_for_themselves_are_not_served(tmp_path: Path) -> None:
    write_chain(tmp_path)
    write_calling(tmp_path, "egg", "hen")
    write_calling(tmp_path, "hen", "egg")
    refused = subprocess.run(
        [MODELYARD, "serve", tmp_path, "--strict", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, "hen → egg → hen" in refused.stderr) == (2, True), refused.stderr
    with Server(tmp_path) as server:
        wait_until(lambda: is_ready(server), what="the models")
        answer = server.predict("egg", [{"nonce": 1}])
        assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")
        assert "egg → hen → egg" in answer.json()["detail"]
        assert server.predict("front", [{"nonce": 1}]).status_code == 200


def test_a_model_asks_with_the_key_that_it_is_given(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_leaf(models)
    write_calling(models, "middle", "leaf")
    keys = Keys(tmp_path / "state")
    mine = {"x-api-key": keys.create("mine", "predict:middle")}
    theirs = keys.create("theirs", "predict:leaf")
    for key, status in (("", 502), (theirs, 200)):
        with Server(models, settings={**keys.settings, "MODELYARD_CALL_KEY": key}) as server:
            wait_until(lambda: is_ready(server), what="the models")
            answer = server.predict("middle", [{"nonce": 1}], headers=mine)
            assert answer.status_code == status, answer.text
            if not key:
                assert "leaf, which middle calls: this server wants a key" in answer.text


class Recorder(BaseHTTPRequestHandler):
    """A gateway that keeps what it is asked."""

    asked: list[tuple[dict[str, str], dict[str, Any]]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a prediction."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
        found = [{"nonce": 1, "by": ["nobody"], "together": 1}]
        answer = json.dumps({"model_name": "leaf", "model_version": "1", "prediction": found})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002
        """Be silent."""


def test_a_call_is_made_in_the_name_of_its_request(tmp_path: Path) -> None:
    asked: list[tuple[dict[str, str], dict[str, Any]]] = []
    gateway = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Recorder,), {"asked": asked}))
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{gateway.server_port}/behind/a/proxy"
    settings = {"MODELYARD_GATEWAY_URL": url, "MODELYARD_CALL_KEY": "mdy_mine"}
    write_calling(tmp_path, "middle", "leaf")
    try:
        with Server(tmp_path, settings=settings) as server:
            wait_until(lambda: is_ready(server), what="the model")
            headers = {"x-request-id": "mine", "traceparent": TRACE, "x-called-by": "front"}
            more: dict[str, Any] = {"timeout_s": 7, "priority": "high", "headers": headers}
            for _ in range(2):  # also by a head that is known
                assert server.predict("middle", [{"nonce": 1}], **more).status_code == 200
    finally:
        gateway.shutdown()
        gateway.server_close()
    for sent, body in asked:
        assert sent["x-request-id"] == "mine"
        assert sent["traceparent"] == TRACE
        assert sent["x-called-by"] == "front,middle"
        assert sent["x-api-key"] == "mdy_mine"
        assert 0 < body["timeout_s"] < 7
        assert (body["model_name"], body["priority"]) == ("leaf", "high")
    assert len(asked) == 2


def test_models_call_each_other_in_a_cluster(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    leaf = write_leaf(tmp_path)
    middle = write_calling(tmp_path, "middle", "leaf")
    front = write_calling(tmp_path, "front", "middle")
    cluster = Cluster(broker, stack)
    assert "nothing says where the gateway is" in complaint_of("worker", front)
    cluster = Cluster(broker, stack, MODELYARD_GATEWAY_URL=cluster.gateway.url)
    for folder in (leaf, middle, front):
        cluster.start_worker(folder=folder)

    def ask() -> httpx.Response:
        return cluster.gateway.predict("front", [{"nonce": 1}])

    wait_until(lambda: ask().status_code == 200, what="the chain")
    assert ask().json()["prediction"][0]["by"] == ["front", "middle", "leaf"]
    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(lambda _: ask().status_code, range(100)))
    assert set(statuses) == {200}
    write_calling(tmp_path / "other", "leaf", "front", more='description = "round"')
    other = tmp_path / "other" / "leaf" / "model.toml"
    other.write_text(other.read_text().replace('"1"', '"2"'), encoding="utf-8")
    cluster.start_worker(folder=other.parent)
    wait_until(lambda: ask().status_code == 503, what="the circle to be seen")
    assert "front → middle → leaf → front" in ask().json()["detail"]
    shown = cluster.gateway.http.get("/models/front").json()["versions"][0]
    assert (shown["state"], shown["calls"]) == ("failed", ["middle"])
