"""``make load-test``: right answers pass, and nothing else does.

A cluster is loaded by ``test_local_cluster``, which has one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psutil
import pytest

from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, ROOT, Server, wait_for_the_end_of, wait_until

MODELS = ["fast_iris_model", "intermediate_iris_model", "slow_iris_model"]


def load(host: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """Run the load test briefly, with so many users that each model is asked."""
    command = ["make", "load-test", f"HOST={host}", "USERS=60", "SECONDS=3", "ARGS=", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The three models, each as quick as the fast one."""
    models = tmp_path_factory.mktemp("models")
    for name in MODELS:
        folder = shutil.copytree(ROOT / "models" / MODELS[0], models / name)
        manifest = folder / "model.toml"
        manifest.write_text(manifest.read_text().replace(MODELS[0], name))
    with Server(models) as server:
        yield server


def test_three_models_answer_without_a_failure(quick: Server) -> None:
    done = load(quick.url, "ARGS=--json")
    assert done.returncode == 0, done.stderr
    seen = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert sorted(seen) == MODELS
    for name in MODELS:
        assert seen[name]["num_failures"] == 0
        asked = quick.metric("modelyard_requests_total", model=name, code="ok")
        assert seen[name]["num_requests"] == asked
        ran = quick.metric("modelyard_cache_requests_total", model=name, use="miss")
        assert quick.metric("modelyard_batch_size_sum", model=name) == 10 * ran, "ten rows each"


def test_its_web_page_is_there_until_it_is_ended() -> None:
    port = free_port()
    variables = ("WEB=1", f"HOST=http://127.0.0.1:{free_port()}", f"ARGS=--web-port {port}")
    with subprocess.Popen(
        ["make", "load-test", *variables],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as make:
        try:
            wait_until(partial(_serves_a_page, port), what="Locust's page")
            family = psutil.Process(make.pid).children(recursive=True)
        finally:
            os.killpg(make.pid, signal.SIGTERM)
        make.wait(PATIENCE_S)
    wait_for_the_end_of(family)
    assert not _serves_a_page(port)


def _serves_a_page(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/")
    except httpx.ConnectError:
        return False
    return answer.status_code == 200 and "<title>Locust" in answer.text


def test_users_come_in_steps(quick: Server) -> None:
    done = load(quick.url, "STEPS=1", "SECONDS=2")
    assert done.returncode == 0, done.stderr
    assert "Shape test updating to 12 users" in done.stderr, "a fifth of them comes first"
    code = "import steps; print([steps.users_at(s, users=7, run_s=100) for s in range(0, 101, 10)])"
    folder = ROOT / "k8s-config" / "locust"
    python = ROOT / ".venv-locust" / "bin" / "python"
    told = subprocess.run(
        [python, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str([2, 3, 5, 6, 7, 2, 2, 2, 2, 2, None])


def test_the_models_are_asked_in_the_ratio_3_2_1() -> None:
    locust = [".venv-locust/bin/locust", "--locustfile", "k8s-config/locust/locustfile.py"]
    done = subprocess.run(
        [*locust, "--show-task-ratio-json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tasks = json.loads(done.stdout)["total"]["Caller"]["tasks"]
    ratios = {name: round(6 * task["ratio"], 6) for name, task in tasks.items()}
    assert ratios == {"ask_fast": 3, "ask_intermediate": 2, "ask_slow": 1}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_agree_with_its_table_of_flowers(iris: Server, name: str) -> None:
    source = (ROOT / "k8s-config" / "locust" / "locustfile.py").read_text()
    found = re.search(r"^ROWS_BY_SPECIES = (\{.*?^\})", source, re.DOTALL | re.MULTILINE)
    assert found
    for species, rows in eval(found[1]).items():
        answer = iris.predict(name, rows)
        assert answer.json()["prediction"] == [species] * len(rows)


class Liar(BaseHTTPRequestHandler):
    """Each model has its own way of being wrong."""

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        name = json.loads(self.rfile.read(length))["model_name"]
        status, answer = {
            MODELS[0]: (200, {"model_name": name, "prediction": [0] * 9 + [7]}),
            MODELS[1]: (200, {"model_name": "another", "prediction": [0] * 10}),
            MODELS[2]: (503, {"code": "overloaded"}),
        }[name]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_wrong_answers_and_refusals_are_failures(liar: str) -> None:
    done = load(liar)
    assert done.returncode != 0
    for name in MODELS:
        assert re.search(rf"POST +{name} +\d+ +\d+\(100.00%\)", done.stderr)
    assert f"POST {MODELS[0]}: a wrong answer" in done.stderr
    assert f"POST {MODELS[1]}: another model's answer" in done.stderr
    assert f"POST {MODELS[2]}: 503: overloaded" in done.stderr


def test_no_answer_is_a_failure() -> None:
    done = load(f"http://127.0.0.1:{free_port()}", "SECONDS=1")
    assert done.returncode != 0
    assert re.search(r"Aggregated +\d+ +\d+\(100.00%\)", done.stderr)
    assert "no answer: [Errno 111] Connection refused" in done.stderr
