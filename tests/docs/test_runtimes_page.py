"""docs/runtimes.md: its commands work as they stand, and its manifests can be read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from modelyard.core.manifest import parse_manifest
from modelyard.folder import read_manifest
from tests.docs.pages import blocks_of
from tests.e2e.test_authoring import in_folder
from tests.support.artefacts import save_onnx
from tests.support.server import MODELYARD, Server, wait_until

PAGE = "runtimes.md"


def commands() -> list[str]:
    """Give what the page has its reader type."""
    texts = [text for language, _, text in blocks_of(PAGE) if language == "console"]
    return [line.removeprefix("$ ") for text in texts for line in text.strip().splitlines()]


def test_the_page_s_commands_work_as_they_stand(tmp_path: Path) -> None:
    install, serve, ask, wrap = commands()
    assert install == "pip install 'modelyard[onnx]'"
    save_onnx(tmp_path / "iris.onnx")
    with Server(*(tmp_path / word for word in serve.split()[2:])) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        command = ask.replace(
            "modelyard", f"MODELYARD_PORT={server.url.rpartition(':')[2]} {MODELYARD}"
        )
        said = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert json.loads(said.stdout)[0]["label"] in (0, 1, 2)
    assert in_folder(tmp_path, wrap).returncode == 0
    written = read_manifest(tmp_path / "models" / "iris")
    (shown,) = (text for _, title, text in blocks_of(PAGE) if title == "models/iris/model.toml")
    (digest,) = written.artefacts.values()
    assert parse_manifest(shown.replace("sha256:…", digest), source=PAGE) == written


def test_the_page_s_other_manifests_can_be_read() -> None:
    texts = [text for language, title, text in blocks_of(PAGE) if language == "toml" and title]
    for text in texts:
        assert parse_manifest(text.replace("…", "0" * 64), source=PAGE).runtime == "onnx"
