"""A registry of a test's own, used as people do: by commands, on the store or through a gateway."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.preloaded import Ended, run
from tests.support.server import MODELYARD

MODEL = """\
from modelyard import Model

ANSWER = {answer!r}


class Answers(Model):
    example = ["a"]

    def predict(self, instances: list[str]) -> list[str]:
        return [ANSWER for _ in instances]
"""


def write_answers(folder: Path, version: str, answer: str = "", *, name: str = "answers") -> Path:
    """Write a model that gives one answer to everything; returns its folder."""
    (folder / "src").mkdir(parents=True)
    (folder / "assets").mkdir()
    (folder / "src" / "nothing.py").touch()  # empty files are files too
    (folder / "assets" / "words.txt").write_text(f"the words of {version}")
    (folder / "src" / "model.py").write_text(MODEL.format(answer=answer or f"from {version}"))
    head = f'name = "{name}"\nversion = "{version}"\nclass = "model:Answers"\n'
    (folder / "model.toml").write_text(f"{head}[cache]\nttl_s = 0\n")
    return folder


class Commands:
    """`modelyard` with a state and caches of its own; ``settings`` are those of its servers.

    ``url``: of the gateway whose registry is meant; empty for the store.
    """

    def __init__(self, folder: Path, *, url: str = "", settings: dict[str, str] | None = None):
        self.settings = {
            "MODELYARD_STATE_FOLDER": str(folder / "state"),
            "MODELYARD_MODEL_CACHE_FOLDER": str(folder / "models"),
            **({"MODELYARD_REGISTRY_URL": url} if url else {}),
            **(settings or {}),
        }
        self.artefacts = folder / "state" / "artefacts" / "sha256"
        self._url = ("--url", url) if url else ()

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start `modelyard registry …`."""
        return subprocess.Popen(
            [MODELYARD, "registry", *map(str, arguments), *self._url],
            env={**os.environ, **self.settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> str:
        """Run `modelyard registry …`, and return what it prints."""
        done = self._run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuse(self, *arguments: str | Path) -> str:
        """Run one that must not succeed, and return the one line that it says."""
        done = self._run(*arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def _run(self, *arguments: str | Path) -> Ended:
        return run("registry", *arguments, *self._url, env={**os.environ, **self.settings})

    def file_of(self, digest: str) -> Path:
        """Return where an artefact lies."""
        name = digest.removeprefix("sha256:")
        return self.artefacts / name[:2] / name
