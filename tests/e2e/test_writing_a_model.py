"""The models and the tests of docs/writing-a-model.md, written to files and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT, Server, wait_until

PAGE = ROOT / "docs" / "writing-a-model.md"
FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def write_files(folder: Path) -> None:
    """Write each block that has a title to the file of this name."""
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_the_page_s_models_pass_the_page_s_tests(tmp_path: Path) -> None:
    write_files(tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout


def test_the_page_s_models_are_served(tmp_path: Path) -> None:
    write_files(tmp_path)
    with Server(tmp_path) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        refused = server.predict("trips", [{"first_day": 5, "last_day": 3}]).json()
        assert refused["detail"] == "the trip ends before it begins"
        assert refused["where"] == "$.input_data[0]"
        names = {model["name"] for model in server.http.get("/models").json()["models"]}
        assert names == {"trips", "brightness", "distance", "pngs"}
