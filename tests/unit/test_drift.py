"""Drift: what has changed is noticed, what has not is not, as often as is stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris

from modelyard.cli import main
from modelyard.drift.comparing import Compared, compare
from modelyard.drift.profile import LEAST_ROWS, ProfileError, make_profile
from modelyard.drift.windows import Windows

FALSE_ALARMS = 0.01
ROWS = 200
IRIS = load_iris()
PROFILE = make_profile(IRIS.data.tolist(), IRIS.target.tolist())


def compare_iris(*, shift: Any, windows: int) -> list[list[Compared]]:
    """Compare windows of flowers, drawn with a fixed seed, with all flowers."""
    seed = np.random.default_rng(20)
    found = []
    for _ in range(windows):
        drawn = seed.integers(0, len(IRIS.data), ROWS)
        flowers = (IRIS.data[drawn] + shift).T.tolist()
        columns = {f"request.{number}": column for number, column in enumerate(flowers)}
        columns["answer"] = IRIS.target[drawn].tolist()
        found.append(compare(PROFILE, columns, rows=ROWS, false_alarms=FALSE_ALARMS))
    return found


def drifted_in(compared: list[Compared]) -> set[str]:
    return {one.name for one in compared if one.has_drifted}


def test_iris_shifted_by_a_standard_deviation_is_noticed_in_every_window() -> None:
    for number in range(4):
        shift = np.where(np.arange(4) == number, IRIS.data.std(axis=0), 0)
        for compared in compare_iris(shift=shift, windows=5):
            assert drifted_in(compared) == {f"request.{number}"}


def test_windows_that_have_not_changed_raise_alarms_no_more_often_than_stated() -> None:
    windows = compare_iris(shift=0, windows=1000)
    assert sum(bool(drifted_in(compared)) for compared in windows) <= FALSE_ALARMS * len(windows)


def rows_of(seed: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Numbers, categories, and one that is missing in every tenth row."""
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        row: dict[str, Any] = {"size": float(seed.normal()), "kind": seed.choice(["a", "b", "c"])}
        if seed.random() < 0.9:
            row["weight"] = float(seed.exponential())
        rows.append(
            {**row, "text": str(seed.random()), "deep": {"flag": bool(seed.random() < 0.5)}}
        )
    return rows


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda row: row, ""),
        (lambda row: {**row, "weight": None}, "request.weight"),
        (lambda row: {**row, "kind": "new"}, "request.kind"),
        (lambda row: {**row, "size": row["size"] * 10}, "request.size"),
        (lambda row: {**row, "size": "large"}, "request.size"),
        (lambda row: {**row, "deep": {"flag": True}}, "request.deep.flag"),
        (lambda row: {key: row[key] for key in row if key != "deep"}, "request.deep.flag"),
    ],
)
def test_what_is_missing_new_or_out_of_range_is_told(change: Any, name: str) -> None:
    seed = np.random.default_rng(1)
    profile = make_profile(rows_of(seed, 1000))
    names = ["request.deep.flag", "request.kind", "request.size", "request.weight"]
    assert [feature.name for feature in profile.features] == names  # of text nothing can be said
    windows = Windows(profile, rows=300, seconds=1e9, least=50, false_alarms=FALSE_ALARMS)
    compared = windows.add([change(row) for row in rows_of(seed, 300)], [], 0.0)
    assert compared is not None
    assert drifted_in(compared) == ({name} if name else set())


def test_a_window_ends_by_time_once_it_has_enough_rows() -> None:
    windows = Windows(PROFILE, rows=10_000, seconds=60, least=50, false_alarms=FALSE_ALARMS)
    flowers = IRIS.data.tolist()
    assert windows.add(flowers[:49], [], 0.0) is None
    assert windows.add([], [], 61.0) is None
    assert windows.add(flowers[:1], [], 61.0) is not None
    assert windows.add(flowers[:60], [], 62.0) is None


def test_a_reference_needs_rows() -> None:
    with pytest.raises(ProfileError, match="at least"):
        make_profile(IRIS.data.tolist()[: LEAST_ROWS - 1])


def test_the_command_makes_a_profile_and_compares_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, shifted = tmp_path / "iris.jsonl", tmp_path / "shifted.csv"
    reference.write_text("".join(f"{json.dumps(row)}\n" for row in IRIS.data.tolist()))
    profile = str(tmp_path / "profile.json")
    run("drift", "profile", str(reference), "--output", profile)
    assert "150 rows, 4 features: request.0, request.1" in capsys.readouterr().out
    assert run("drift", "compare", profile, str(reference)) == 0
    assert "drifted" not in capsys.readouterr().out
    lines = [",".join(map(str, row)) for row in np.add(IRIS.data, [0, 1, 0, 0]).tolist()]
    shifted.write_text("\n".join(["0,1,2,3", *lines]))
    assert run("drift", "compare", profile, str(shifted)) == 1
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "drifted" in one]
    assert line.startswith("request.1")
    assert run("drift", "compare", str(shifted), str(shifted)) == 2
    assert "shifted.csv" in capsys.readouterr().err


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)
