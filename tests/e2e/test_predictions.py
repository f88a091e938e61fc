"""Predictions through the API: right, labelled, cached, documented."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from tests.e2e.conftest import TRICK
from tests.support.server import Server, wait_until

IRIS = ["fast_iris_model", "intermediate_iris_model", "slow_iris_model"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


@pytest.mark.parametrize("name", IRIS)
def test_answers_come_with_name_version_and_headers(iris: Server, name: str) -> None:
    response = iris.predict(name, ROWS, headers={"x-request-id": "mine"})
    assert response.status_code == 200
    assert response.json() == {"model_name": name, "model_version": "1", "prediction": [0, 2]}
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["content-type"] == "application/json"
    assert iris.predict(name, ROWS, model_version="1").json()["prediction"] == [0, 2]


@pytest.mark.parametrize("name", IRIS)
def test_accuracy_on_rows_that_training_did_not_see(iris: Server, name: str) -> None:
    data = load_iris()
    _, rows, _, classes = train_test_split(
        data.data, data.target, test_size=0.3, random_state=0, stratify=data.target
    )
    answer = iris.predict(name, rows.tolist())
    right = sum(a == b for a, b in zip(answer.json()["prediction"], classes, strict=True))
    assert right / len(rows) >= 0.93


def test_a_cached_answer_is_the_same_and_says_so(iris: Server) -> None:
    row = [[4.9, 3.1, 1.5, 0.1234]]
    first, second = iris.predict(IRIS[0], row), iris.predict(IRIS[0], row)
    fresh = iris.predict(IRIS[0], row, headers={"cache-control": "no-cache"})
    assert [r.headers["x-cache"] for r in (first, second, fresh)] == ["miss", "hit", "bypass"]
    assert first.json() == second.json() == fresh.json()
    other = iris.predict(IRIS[1], row)
    assert other.headers["x-cache"] == "miss", "another model's answer is another answer"


def test_errors_are_not_cached_and_a_batch_fails_only_where_it_must(trick: Server) -> None:
    answer = trick.predict("trick_model", [{"nonce": 1, "act": "raise"}])
    assert answer.status_code == 502
    assert answer.json()["code"] == "model_failed"
    assert "ValueError" in answer.json()["detail"]
    assert "told me to" not in answer.json()["detail"], "its text is for the log"
    short = trick.predict("trick_model", [{"nonce": 1, "act": "short"}])
    assert short.status_code == 502
    assert "returned 0 predictions for 1 instances" in short.json()["detail"]
    assert trick.predict("trick_model", [{"nonce": 2}]).json()["prediction"] == [7]


def test_models_tells_the_truth(iris: Server) -> None:
    listed = iris.http.get("/models").json()["models"]
    assert [model["name"] for model in listed] == IRIS
    (version,) = iris.http.get("/models/fast_iris_model").json()["versions"]
    assert version["state"] == "ready"
    assert version["is_default"]
    assert version["capacity"]["runners_ready"] == 1
    assert version["input_schema"]["items"]["minItems"] == 4
    assert version["output_schema"]["items"]["enum"] == [0, 1, 2]
    assert version["example"] == [[5.1, 3.5, 1.4, 0.2]]
    assert iris.http.get("/healthz").json() == {"status": "ok"}
    assert iris.http.get("/readyz").json()["status"] == "ready"


def test_metrics_count_what_was_asked(trick: Server) -> None:
    for nonce in range(5):
        trick.predict("trick_model", [{"nonce": nonce}, {"nonce": nonce}])
    labels = {"model": "trick_model", "version": "1"}
    assert trick.metric("modelyard_requests_total", code="ok", **labels) == 5
    assert trick.metric("modelyard_request_seconds_count", **labels) == 5
    assert trick.metric("modelyard_queue_wait_seconds_count", **labels) == 5
    assert trick.metric("modelyard_batch_size_sum", **labels) == 10
    assert trick.metric("modelyard_runners", state="ready", **labels) == 1


def test_two_versions_serve_side_by_side(tmp_path: Path) -> None:
    folders = []
    for version in ("9", "10"):
        folder = shutil.copytree(TRICK, tmp_path / version)
        manifest = folder / "model.toml"
        manifest.write_text(manifest.read_text().replace('version = "1"', f'version = "{version}"'))
        folders.append(folder)
    with Server(*folders) as server:
        assert server.predict("trick_model", [{"nonce": 1}]).json()["model_version"] == "10"
        old = server.predict("trick_model", [{"nonce": 1}], model_version="9")
        assert old.json()["model_version"] == "9"


def test_too_many_at_once_are_refused_at_once(tmp_path: Path) -> None:
    folder = shutil.copytree(TRICK, tmp_path / "trick_model")
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace("max_in_flight = 200", "max_in_flight = 1"))
    with Server(folder) as server, ThreadPoolExecutor() as threads:
        working = {"nonce": 1, "act": "work", "seconds": 1}
        first = threads.submit(server.predict, "trick_model", [working])
        wait_until(lambda: server.metric("modelyard_in_flight") == 1, what="one under way")
        refused = server.predict("trick_model", [{"nonce": 2}])
        assert refused.status_code == 503
        assert refused.json()["code"] == "overloaded"
        assert refused.headers["retry-after"] == "1"
        assert first.result().json()["prediction"] == [4]


def test_a_deadline_is_kept(trick: Server) -> None:
    late = trick.predict("trick_model", [{"nonce": 1, "act": "work", "seconds": 1}], timeout_s=0.1)
    assert late.status_code == 504
    assert late.json()["code"] == "deadline_exceeded"
    assert trick.predict("trick_model", [{"nonce": 2}]).json()["prediction"] == [7]
    assert trick.metric("modelyard_late_replies_total") == 1
    assert trick.metric("modelyard_expired_total", where="asking") == 1
