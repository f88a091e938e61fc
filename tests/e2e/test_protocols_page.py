"""The page about protocols: every example runs against the models of `make serve`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_readme import BLOCK, Block
from tests.support.server import ROOT, Server, wait_until

PAGE = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")


@pytest.fixture
def iris() -> Iterator[Server]:
    with Server(ROOT / "models") as server:
        yield server


def test_every_example_of_the_page_works(iris: Server, tmp_path: Path) -> None:
    wait_until(lambda: iris.http.get("/readyz").status_code == 200, what="the models")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = 0
    for block in [Block(*found) for found in BLOCK.findall(PAGE)]:
        assert block.language == "console"
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.M):
            done = subprocess.run(
                command.replace("localhost:8000", iris.url.removeprefix("http://")),
                shell=True,
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout.strip() == expected.strip(), (command, done.stderr)
            run += 1
    assert run == 4
