"""``/docs`` in a real browser: it renders without the internet, with every model's own schemas."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.test_odd_models import write
from tests.support.server import Server, wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update"]


def rendered(url: str, profile: Path) -> str:
    """Give the page's document after its scripts have run."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser is not None, "install chromium: `make test` does where it may"
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", *QUIET),
            *("--disable-quic", f"--user-data-dir={profile}", "--virtual-time-budget=10000"),
            *("--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_the_page_shows_predict_with_an_example_of_each_model(iris: Server, tmp_path: Path) -> None:
    page = rendered(f"{iris.url}/docs#/predictions/post_predict", tmp_path)
    assert 'id="operations-predictions-post_predict"' in page
    for name in ("fast", "intermediate", "slow"):
        assert f"{name}_iris_model/1: Iris species" in page
    assert '"input_data": [' in page


IMAGES = """\
from typing import Annotated
import numpy as np
from modelyard import Model, Tensor

class Served(Model):
    example = np.full((1, 3, 224, 224), 0.123456789, dtype="float32")

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("float32", (3, 224, 224))]
    ) -> Annotated[np.ndarray, Tensor("float32", (1000,))]:
        return np.zeros((len(instances), 1000), dtype="float32")
"""


def test_a_model_of_images_makes_neither_page_nor_terminal_large(
    iris: Server, tmp_path: Path
) -> None:
    document_of_small_ones = iris.http.get("/openapi.json").text
    with Server(write(tmp_path / "images", IMAGES)) as server:
        wait_until(lambda: "Try:" in server.output, what="a request to try")
        assert len(server.output) < 2_000
        assert len(server.http.get("/openapi.json").text) < len(document_of_small_ones)
        page = rendered(f"{server.url}/docs#/predictions/post_predict", tmp_path / "profile")
        assert "images/1, shortened; in full: GET /models/images/example" in page
        assert len(page) < 200_000
        (curl,) = (line for line in server.output.splitlines() if line.startswith("  curl"))
        done = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)
        assert done.stdout.startswith('{"model_name":"images","model_version":"1","prediction":[[')


def test_the_document_refers_only_to_what_is_in_it(iris: Server) -> None:
    document = iris.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    choices = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    names = [
        choice["$ref"].removeprefix("#/components/schemas/")
        for choice in choices["schema"]["anyOf"]
    ]
    assert [schemas[name]["properties"]["model_name"]["const"] for name in names] == [
        "fast_iris_model",
        "intermediate_iris_model",
        "slow_iris_model",
    ]
    rows = schemas["fast_iris_model.1.request"]["properties"]["input_data"]
    assert rows["items"]["maxItems"] == 4
    for example in choices["examples"].values():
        assert iris.http.post("/predict", json=example["value"]).status_code == 200
    for name in ("fast_iris_model", "intermediate_iris_model", "slow_iris_model"):
        at = document["paths"][f"/models/{name}/predict"]["post"]["requestBody"]["content"]
        body = at["application/json"]["example"]
        assert iris.http.post(f"/models/{name}/predict", json=body).status_code == 200


SIZES = """\
from modelyard import Model

class Served(Model):
    example = [b"PNG"]

    def predict(self, instances: list[bytes]) -> list[int]:
        return [len(instance) for instance in instances]
"""


def test_what_the_document_says_of_files_is_taken(tmp_path: Path) -> None:
    with Server(write(tmp_path / "sizes", SIZES)) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        document = server.http.get("/openapi.json").json()
        content = document["paths"]["/models/sizes/predict"]["post"]["requestBody"]["content"]
        sent: dict[str, dict[str, Any]] = {
            "application/json": {"json": content["application/json"]["example"]},
            "application/msgpack": {"content": msgspec.msgpack.encode({"input_data": [b"PNG"]})},
            "multipart/form-data": {"files": {"file": b"PNG"}, "data": {"timeout_s": "5"}},
            "application/octet-stream": {"content": b"PNG", "params": {"priority": "high"}},
        }
        assert list(content) == list(sent)
        for address in ("/models/sizes/predict", "/models/sizes/versions/1/predict"):
            for kind, body in sent.items():
                is_form = kind == "multipart/form-data"  # its boundary is in the header
                headers = {} if is_form else {"content-type": kind}
                answer = server.http.post(address, headers=headers, **body)
                assert answer.status_code == 200, answer.text
