"""The commands and code of the pages, executed from top to bottom: in a copy of the repository, but
what comes before the README's part about clones in an empty folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, ROOT

IN_A_CLONE = "## In a clone\n"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: a console session, or the text of a file."""

    language: str
    title: str
    text: str


class Copy:
    """A copy of the repository with the same environment."""

    def __init__(self, folder: Path) -> None:
        self.clone = self.folder = folder
        self._servers: list[subprocess.Popen[str]] = []
        path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path}

    def do(self, command: str, expected: str) -> None:
        """Run a command; one that serves goes on in the background."""
        words = command.split()
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self._environment[name] = value
        elif words[0] == "source":
            bin_folder = self.folder / Path(words[1]).parent
            self._environment["PATH"] = f"{bin_folder}{os.pathsep}{self._environment['PATH']}"
        elif words[:2] == ["make", "serve"] or words[1] == "serve":
            self.start(command, "Modelyard is at")
        elif words[1] in ("worker", "gateway"):
            self.start(command, "ready ")
        else:
            assert self.run(command).strip() == expected.strip(), command

    def start(self, command: str, sign: str) -> None:
        """Run a server in the background, and wait for a line with ``sign``."""
        # The environment is the tests' own: `make serve` must not install the copy into it.
        make = "make --old-file=.venv/.run "
        server = start(
            ["sh", "-c", f"{make}{command[5:]}" if command.startswith("make ") else command],
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
            if sign in line:
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
            with contextlib.suppress(ProcessLookupError):  # it could not start
                os.killpg(server.pid, signal.SIGTERM)
            assert server.stdout is not None
            server.stdout.read()  # until all that it started, make and its children, are gone
            server.stdout.close()
            server.wait(PATIENCE_S)
        self._servers.clear()


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
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    copy = Copy(folder)
    try:
        yield copy
    finally:
        copy.stop()


def execute(text: str, copy: Copy, replacements: dict[str, str]) -> None:
    """Do what a page says, from top to bottom."""
    documented = "|".join(map(re.escape, replacements))
    text = re.sub(documented, lambda m: replacements[m[0]], text)
    blocks = [Block(*found) for found in BLOCK.findall(text)]
    assert blocks
    for block in blocks:
        if block.title:
            (copy.folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (copy.folder / block.title).write_text(block.text)
        elif block.language == "console":
            for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.M):
                copy.do(command, expected)
        else:
            assert block.language == "text", "code without a title is not executed"


def test_every_command_and_code_block_of_the_readme_works(copy: Copy, tmp_path: Path) -> None:
    replacements = {
        "8000": str(free_port()),
        "git+https://github.com/OWNER/modelyard": str(copy.clone),
    }
    copy.do(f"export MODELYARD_PORT={replacements['8000']}", "")  # what all commands use
    installed, clone = (copy.clone / "README.md").read_text().split(IN_A_CLONE)
    copy.folder = tmp_path / "empty"
    copy.folder.mkdir()
    execute(installed, copy, replacements)
    copy.stop()
    copy.folder = copy.clone
    execute(clone, copy, replacements)


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", BLOCK.sub("", page.read_text())):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page}: {link}"
