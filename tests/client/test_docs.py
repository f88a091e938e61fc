"""The page about clients: every example runs, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.environment import ENVIRONMENT
from tests.e2e.test_readme import BLOCK, Block
from tests.support.proxy import Proxy
from tests.support.raw import address_of
from tests.support.server import ROOT, Server, wait_until

PAGE = (ROOT / "docs" / "clients.md").read_text()
DOCUMENTED = "localhost:8000"
DOCUMENTED_GRPC = "localhost:9000"
LANGUAGES = {"console", "python", "javascript", "go"}


@pytest.fixture(scope="module")
def iris() -> Iterator[Server]:
    with Server(ROOT / "models", settings={"MODELYARD_GRPC_PORT": "0"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def sessions(block: Block) -> list[tuple[str, str]]:
    """Give the commands of a console block, each with what it prints."""
    return re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.M)


def go_environment(folder: Path) -> dict[str, str]:
    """Settings under which Go asks nobody for anything, and writes nothing outside ``folder``."""
    return {
        "GOCACHE": str(folder / "cache"),
        "GOENV": "off",
        "GOFLAGS": "",
        "GOPATH": str(folder / "path"),
        "GOPROXY": "off",
        "GOTELEMETRYDIR": str(folder / "telemetry"),
        "GOTOOLCHAIN": "local",
        "XDG_CONFIG_HOME": str(folder / "config"),
    }


def test_every_example_of_the_page_works(iris: Server, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    blocks = [Block(*found) for found in BLOCK.findall(PAGE)]
    assert {block.language for block in blocks} == LANGUAGES
    run = 0
    for block in blocks:
        if block.title:
            (tmp_path / block.title).write_text(block.text)
            continue
        assert block.language == "console", "code without a title is not executed"
        for command, expected in sessions(block):
            done = subprocess.run(
                command.replace(DOCUMENTED, iris.url.removeprefix("http://")).replace(
                    DOCUMENTED_GRPC, iris.grpc_address
                ),
                shell=True,
                cwd=tmp_path,
                env={**ENVIRONMENT, **go_environment(tmp_path / "go"), "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            if expected:
                assert done.stdout.strip() == expected.strip(), command
            run += 1
    assert run >= len(LANGUAGES)


def test_the_example_in_javascript_asks_again_when_its_answer_was_cut(
    iris: Server, tmp_path: Path
) -> None:
    (program,) = [text for language, _, text in BLOCK.findall(PAGE) if language == "javascript"]
    (tmp_path / "flowers.mjs").write_text(program)
    with Proxy(address_of(iris.url)[1]) as proxy:
        proxy.to_client.cut_after(20)
        command = ["node", "flowers.mjs", f"http://127.0.0.1:{proxy.port}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert proxy.to_client.cuts == 1
    assert done.stdout.startswith("[ 0, 2 ]")


def test_every_program_of_the_page_is_run() -> None:
    blocks = [Block(*found) for found in BLOCK.findall(PAGE)]
    commands = " ".join(command for block in blocks for command, _ in sessions(block))
    for block in blocks:
        assert block.title in commands, block.title
