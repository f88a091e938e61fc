"""``modelyard models``: a row per version, and one per worker that does not serve."""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.cli.table import table_of
from modelyard.client import ModelInfo

CAPACITY = {"workers": 2, "runners": 2, "runners_ready": 1, "in_flight": 3, "queued": 7}


def model(**more: Any) -> ModelInfo:
    version = {"version": "2", "state": "ready", "is_default": True, "reason": ""}
    versions = [{**version, "capacity": CAPACITY, **more}]
    return msgspec.convert({"name": "sentiment", "versions": versions}, ModelInfo)


def worker(state: str, reason: str = "", host: str = "") -> dict[str, Any]:
    place = {"name": f"{state}.1", "host": host}
    return {**place, "state": state, "reason": reason, "runners": 1, "runners_ready": 0}


def test_a_version_is_a_row() -> None:
    lines = table_of([model()])
    assert lines[1].split() == ["sentiment", "2*", "ready", "2", "1/2", "3", "7"]
    assert len(lines) == 3


def test_workers_that_do_not_serve_are_shown_with_pod_and_reason() -> None:
    workers = [
        worker("ready", host="pod-a"),
        worker("failed", "no such file", host="pod-b"),
        worker("starting"),
    ]
    lines = table_of([model(workers=workers)])
    assert [line.split() for line in lines[2:-1]] == [
        ["on", "pod-b", "failed", "0/1", "no", "such", "file"],
        ["on", "starting.1", "starting", "0/1"],
    ]
    at = lines[0].index("WHY")
    assert lines[2][at:] == "no such file"


def test_no_models_are_a_table_too() -> None:
    assert table_of([])[0].startswith("MODEL  VERSION")
