"""``/docs`` in a real browser: it renders without the internet, with every model's own schemas."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.server import Server

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


def test_the_page_shows_predict_and_the_models_schemas(iris: Server, tmp_path: Path) -> None:
    page = rendered(f"{iris.url}/docs", tmp_path)
    assert 'id="operations-predictions-post_predict"' in page
    for name in ("fast", "intermediate", "slow"):
        assert f"{name}_iris_model/1 request" in page.lower()
        assert f"{name}_iris_model/1 answer" in page.lower()


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
