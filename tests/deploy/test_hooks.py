"""What ``helm test`` runs: a real prediction, or a failure."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from tests.deploy.charts import MODEL, PLATFORM, Manifest, only, render

main = run_path(str(PLATFORM / "files" / "predict.py"))["main"]


@contextmanager
def gateway(examples: dict[str, Any]) -> Iterator[str]:
    """Give the address of a gateway that has these models, each with this example."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            models = [
                {"name": name, "versions": [{"version": "1", "state": "ready", "example": example}]}
                for name, example in examples.items()
            ]
            known = {f"/models/{one['name']}": one for one in models}
            self._answer({"/readyz": {}, "/models": {"models": models}, **known}[self.path])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer({"prediction": [0] * len(body["input_data"])})

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def _answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_model_is_asked_or_the_one_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with gateway({"iris": [[1, 2]], "other": [[3, 4], [5, 6]], "mute": None}) as url:
        main(url)
        assert "2 models answered" in capsys.readouterr().out
        main(url, "other", "1")
        assert "other/1: [[3, 4], [5, 6]] -> [0, 0]\n1 models answered" in capsys.readouterr().out


def test_where_nothing_was_asked_the_test_fails() -> None:
    with gateway({}) as url, pytest.raises(LookupError, match="no model is ready"):
        main(url)
    with gateway({"mute": None}) as url:
        for target in ([], ["mute", "1"]):
            with pytest.raises(SystemExit, match="no model was asked"):
                main(url, *target)


PLACED = {
    "image.pullSecrets[0]": "registry",
    "{0}.nodeSelector.disk": "fast",
    "{0}.tolerations[0].operator": "Exists",
}


@pytest.mark.parametrize(("chart", "part"), [(PLATFORM, "gateway"), (MODEL, "worker")])
def test_the_test_runs_where_what_it_tests_runs(chart: Path, part: str) -> None:
    settings = ",".join(f"{key.format(part)}={value}" for key, value in PLACED.items())
    manifests = render(chart, "--set", settings)
    named = "modelyard-gateway" if chart == PLATFORM else "modelyard"
    deployment = only(manifests, "Deployment", named)["spec"]["template"]["spec"]
    test = only(manifests, "Pod")["spec"]
    assert _placement(test) == _placement(deployment)
    assert _placement(test) == {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"operator": "Exists"}],
    }
    if chart == PLATFORM:  # a mirror of their images may want the same credentials
        redis = only(manifests, "Deployment", "modelyard-redis")["spec"]["template"]["spec"]
        broker = only(manifests, "RabbitmqCluster")["spec"]
        assert redis["imagePullSecrets"] == broker["imagePullSecrets"] == [{"name": "registry"}]


def _placement(pod: Manifest) -> Manifest:
    return {key: pod.get(key) for key in ("imagePullSecrets", "nodeSelector", "tolerations")}
