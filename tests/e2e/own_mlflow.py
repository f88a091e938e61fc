"""Models registered in a real MLflow are imported, with their lineage, and served: `make
test-mlflow` runs this in an environment of MLflow's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import mlflow
import onnx
import pytest
from mlflow import MlflowClient

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.registry import Commands
from tests.support.server import PATIENCE_S, ROOT, Server, wait_until

COMMIT = "0f3e5a7c91b24d680f3e5a7c91b24d680f3e5a7c"
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


class Tracked(NamedTuple):
    """An MLflow with the model ``iris`` in two versions, of which the alias ``champion`` is 2."""

    url: str
    run_id: str


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    url = f"http://127.0.0.1:{port}"
    server = start(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artefacts")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        start_new_session=True,
    )
    try:
        wait_until(lambda: _answers(url), what="MLflow")
        mlflow.set_tracking_uri(url)
        graph = onnx.load(ROOT / "models" / "fast_iris_model" / "assets" / "iris.onnx")
        for _ in range(2):
            with mlflow.start_run() as run:
                mlflow.set_tag("mlflow.source.git.commit", COMMIT)
                mlflow.onnx.log_model(graph, name="model", registered_model_name="iris")
        MlflowClient().set_registered_model_alias("iris", "champion", "2")
        yield Tracked(url, run.info.run_id)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(PATIENCE_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def commands(tmp_path: Path, tracked: Tracked) -> Commands:
    return Commands(tmp_path, settings={"MLFLOW_TRACKING_URI": tracked.url})


def test_a_model_is_imported_by_its_alias_and_served_right(
    commands: Commands, tracked: Tracked
) -> None:
    commands.run("import", "models:/iris@champion")
    found = json.loads(commands.run("show", "iris@2", "--json"))
    contents = found["contents"]
    assert contents["commit"] == COMMIT
    assert contents["runtime"] == "mlflow"
    assert tracked.run_id in contents["run"]
    assert "models:/iris/2" in contents["run"]
    assert "assets/model/MLmodel" in {file["path"] for file in contents["files"]}
    with Server(Path("iris@2"), settings=commands.settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        answered = server.predict("iris", FLOWERS).json()["prediction"]
        assert [one["label"] for one in answered] == [0, 2]


def test_a_version_and_a_run_are_imported_too(commands: Commands, tracked: Tracked) -> None:
    commands.run("import", "models:/iris/1")
    assert "iris  " in commands.run("list")
    commands.run("import", f"runs:/{tracked.run_id}/model", "--as", "of_run@7")
    shown = commands.run("show", "of_run@7")
    assert tracked.run_id in shown
    assert "assets/model/MLmodel" in shown
    told = commands.refuse("import", f"runs:/{tracked.run_id}/model")
    assert "--as MODEL@VERSION" in told


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("models:/nothing@champion", "nothing"),
        ("models:/iris@nothing", "nothing"),
        ("models:/iris/9", "9"),
        ("runs:/0000/model", "0000"),
        ("iris", "expected models:/NAME@ALIAS"),
    ],
)
def test_what_mlflow_does_not_have_is_told(commands: Commands, uri: str, problem: str) -> None:
    told = commands.refuse("import", uri, "--as", "a@1")
    assert problem in told
    assert "artefacts" not in told


def test_a_run_without_such_a_model_is_told(commands: Commands, tracked: Tracked) -> None:
    told = commands.refuse("import", f"runs:/{tracked.run_id}/nothing", "--as", "a@1")
    assert "has no files" in told


def test_an_mlflow_that_is_away_is_told(commands: Commands) -> None:
    told = commands.refuse("import", "models:/iris/1", "--from", f"http://127.0.0.1:{free_port()}")
    assert "cannot be asked" in told
