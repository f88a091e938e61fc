"""docs/openai.md: its models and its program, as its reader types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks_of, write_files
from tests.support.server import Server, wait_until

PAGE = "openai.md"


def test_the_page_s_programs_say_what_the_page_says(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    said = [text for kind, title, text in blocks_of(PAGE) if kind == "text" and not title]
    with Server(tmp_path / "models") as server:
        wait_until(lambda: server.http.get("/readyz").json()["status"] == "ready", what="models")
        for program, text in zip(("ask.py", "tell.py"), said, strict=True):
            done = subprocess.run(
                [sys.executable, program],
                cwd=tmp_path,
                env={**os.environ, "URL": server.url},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout == text
