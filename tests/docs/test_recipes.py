"""The recipes whose frameworks are in the development environment. ``own_environment.py`` has the
others.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks_of, run_python, write_files
from tests.docs.recipes import (
    IN_AN_ENVIRONMENT_OF_THEIR_OWN,
    IN_THE_SUITE,
    PAGE,
    WITH_A_SERVICE,
    run_recipe,
)
from tests.support.server import PATIENCE_S, Server, wait_until


@pytest.mark.parametrize("name", sorted(IN_THE_SUITE))
def test_a_recipe_works_as_it_stands(name: str, tmp_path: Path) -> None:
    run_recipe(name, tmp_path)


def test_every_recipe_is_run_somewhere() -> None:
    written = {
        title.split("/")[1] for _, title, _ in blocks_of(PAGE) if title.endswith("model.toml")
    }
    assert written == IN_THE_SUITE | IN_AN_ENVIRONMENT_OF_THEIR_OWN | WITH_A_SERVICE


class Weather(BaseHTTPRequestHandler):
    """A service that answers once 20 requests wait for it."""

    together = threading.Barrier(20, timeout=PATIENCE_S)

    def do_GET(self) -> None:
        """Tell the temperature of a place."""
        self.together.wait()
        body = b'{"celsius": 4.5}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002
        """Be silent."""


class Service(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


def test_a_model_waits_for_many_answers_of_a_service_at_once(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    folder = tmp_path / "models" / "forecast"
    passed = run_python("-m", "modelyard", "test", str(folder), folder=tmp_path)
    assert re.search(r"[1-9]\d* passed", passed), passed
    with Service(("127.0.0.1", 0), Weather) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        settings = {"WEATHER_URL": f"http://127.0.0.1:{service.server_port}"}
        with Server(folder, settings=settings) as server, ThreadPoolExecutor(20) as threads:
            wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
            asked = [threads.submit(server.predict, "forecast", [f"{n}"]) for n in range(20)]
            answers = [one.result().json()["prediction"] for one in asked]
        service.shutdown()
    assert answers == [[4.5]] * 20
