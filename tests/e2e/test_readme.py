"""The README's commands and code, executed from top to bottom in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.test_command_line import free_port
from tests.support.server import PATIENCE_S, ROOT

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: a console session, or the text of a file."""

    language: str
    title: str
    text: str


class Copy:
    """A copy of the repository with the same environment, whose servers listen elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8000": str(free_port()), "8001": str(free_port())}
        self._servers: list[subprocess.Popen[str]] = []
        self._environment = {**os.environ, "MODELYARD_PORT": self.ports["8000"]}

    def start(self, command: str) -> None:
        """Run a server in the background, and wait until it serves."""
        server = subprocess.Popen(
            command,
            shell=True,
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._servers.append(server)
        assert server.stdout is not None
        for line in server.stdout:
            if "Modelyard is at" in line:
                return
        raise AssertionError(f"{command} ended with {server.wait()}")

    def run(self, command: str) -> str:
        """Run a command to its end; gives what it printed."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def stop(self) -> None:
        """End the servers."""
        for server in self._servers:
            os.killpg(server.pid, signal.SIGTERM)
            assert server.stdout is not None
            server.stdout.read()  # until all that it started, make and its children, are gone
            server.stdout.close()
            server.wait(PATIENCE_S)


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    folder = tmp_path / "clone"
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    copy = Copy(folder)
    try:
        yield copy
    finally:
        copy.stop()


def test_every_command_and_code_block_works(copy: Copy) -> None:
    text = (copy.folder / "README.md").read_text()
    for documented, free in copy.ports.items():
        text = text.replace(documented, free)
    blocks = [Block(*found) for found in BLOCK.findall(text)]
    assert {block.language for block in blocks} == {"console", "python", "toml", "text"}
    for block in blocks:
        if block.title:
            (copy.folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (copy.folder / block.title).write_text(block.text)
        elif block.language == "console":
            for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.M):
                if " serve" in command:
                    copy.start(command)
                else:
                    assert copy.run(command).strip() == expected.strip(), command
        else:
            assert block.language == "text", "code without a title is not executed"


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page}: {link}"
