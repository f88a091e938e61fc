"""The pipeline of docs/composition.md, as its reader types it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.docs.pages import blocks_of, run_python, write_files
from tests.support.server import Server, wait_until

PAGE = "composition.md"


def test_the_pipeline_works_as_it_stands(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    passed = run_python("-m", "modelyard", "test", "models/triage", folder=tmp_path)
    assert re.search(r"[1-9]\d* passed", passed), passed
    (session,) = [text for kind, _, text in blocks_of(PAGE) if kind == "console"]
    command, answer = session.strip().splitlines()
    *_, name, instances = shlex.split(command)
    with Server(tmp_path / "models") as server:
        wait_until(lambda: server.http.get("/readyz").json()["status"] == "ready", what="models")
        predicted = server.predict(name, json.loads(instances))
        assert predicted.json()["prediction"] == json.loads(answer), predicted.text
        assert "not predicted" not in server.output  # the examples waited for each other
