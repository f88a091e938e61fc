"""Console sessions of the pages, against a server with the models of the recipes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from modelyard.testing import ServedModel
from tests.docs.pages import DOCS, blocks_of, run_python, write_files
from tests.support.server import Server, wait_until

DOCUMENTED = "localhost:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes ``iris``, trained, and ``colours``, and two images beside them."""
    folder = tmp_path_factory.mktemp("pages")
    write_files("recipes.md", folder)
    for model in (folder / "models").iterdir():
        if model.name not in ("iris", "colours"):
            shutil.rmtree(model)
    run_python("train.py", folder=folder / "models" / "iris")
    Image.new("RGB", (4, 3), (10, 20, 30)).save(folder / "blue.png")
    Image.new("RGB", (1, 2), "red").save(folder / "red.png")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Server(folder / "models") as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def run_command(command: str, *, folder: Path, url: str = "") -> str:
    """Run what a page shows, with the address of the server instead of the documented one."""
    port = url.rpartition(":")[2]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace(DOCUMENTED, url.removeprefix("http://"))],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MODELYARD_PORT": port or "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def sessions(page: str) -> list[tuple[str, str]]:
    """Give the commands of a page, each with what it prints."""
    texts = "".join(block.text for block in blocks_of(page) if block.language == "console")
    return re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", texts, re.MULTILINE)


@pytest.mark.parametrize("page", ["http-api.md", "caching.md"])
def test_every_command_prints_what_the_page_says(page: str, folder: Path, server: Server) -> None:
    commands = sessions(page)
    assert commands
    for command, expected in commands:
        printed = run_command(command, folder=folder, url=server.url)
        assert printed.replace("\r", "").strip() == expected.strip(), command


def test_the_problem_document_on_the_page_is_what_is_answered(server: Server) -> None:
    (shown,) = [
        json.loads(block.text) for block in blocks_of("errors.md") if block.language == "json"
    ]
    body = {"model_name": "iris", "input_data": [[5.1, 3.5]]}
    answered = server.http.post("/predict", json=body, headers={"x-request-id": "a1"}).json()
    assert answered == shown


def test_the_first_steps_work(tmp_path: Path) -> None:
    (new, _), (serve, _), (predict, expected) = sessions("index.md")
    run_command(new, folder=tmp_path)
    assert serve == "modelyard serve"
    with Server(tmp_path / "models") as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        assert run_command(predict, folder=tmp_path, url=server.url) == expected


def test_the_page_about_tests_passes_its_own(tmp_path: Path) -> None:
    write_files("testing-a-model.md", tmp_path)
    ((command, _),) = sessions("testing-a-model.md")
    assert re.search(r"[1-9]\d* passed", run_command(command, folder=tmp_path))


def test_what_stands_beside_other_servers_code_is_one_model_that_works(
    folder: Path, tmp_path: Path
) -> None:
    page = "from-other-servers.md"
    ours = [block.text for block in blocks_of(page) if block.title.endswith("model.py")]
    sections = re.findall(r"^## ", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(ours) == len(sections)
    assert len(set(ours)) == 1
    write_files(page, tmp_path)
    assets = tmp_path / "models" / "iris" / "assets"
    shutil.copytree(folder / "models" / "iris" / "assets", assets)
    with ServedModel(assets.parent) as model:
        assert model.predict([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]) == [0, 2]
