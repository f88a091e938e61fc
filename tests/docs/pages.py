"""The blocks of a page: files, which have a title, and console sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.test_readme import BLOCK, Block
from tests.support.server import ROOT

DOCS = ROOT / "docs"


def blocks_of(page: str) -> list[Block]:
    """Give the fenced blocks of a page in ``docs/``."""
    return [Block(*found) for found in BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))]


def write_files(page: str, folder: Path) -> None:
    """Write each block that has a title to the file of this name."""
    for _, title, text in blocks_of(page):
        if title:
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(text, encoding="utf-8")


def run_python(*arguments: str, folder: Path) -> str:
    """Run Python as a reader of the page would; gives what it prints."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
