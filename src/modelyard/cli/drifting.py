"""``drift``: a profile is made of a reference, and shown beside another sample."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelyard.cli.mistakes import UsageError
from modelyard.cli.options import Commands
from modelyard.core.artefacts import REFERENCE_FILE


def add_drift(commands: Commands) -> None:
    """Define ``drift`` and its actions."""
    drift = commands.add_parser(
        "drift",
        help="see whether a model is asked what it was made for",
        description="Profiles of references, with which a payload log compares requests.",
    )
    actions = drift.add_subparsers(title="actions", required=True, metavar="ACTION")
    profile = actions.add_parser(
        "profile",
        help="make a profile of a reference",
        description="Make the profile of a sample: .jsonl or .json of instances, .csv with a line "
        "of names, or what a payload log has kept: its folder, or files of it.",
    )
    profile.add_argument("sample", nargs="+", type=Path, metavar="SAMPLE", help="a file or folder")
    profile.add_argument("--model", metavar="NAME", help="of a payload log, this model alone")
    profile.add_argument(
        "--output",
        "-o",
        type=Path,
        default=Path("profile.json"),
        metavar="FILE",
        help="(%(default)s)",
    )
    profile.set_defaults(run=make)
    compare = actions.add_parser(
        "compare",
        help="compare a sample with a profile",
        description="Compare a sample with a profile, as a payload log compares a window. Exits "
        "with 1 if a feature has drifted.",
    )
    compare.add_argument("profile", type=Path, metavar="PROFILE", help="made by `drift profile`")
    compare.add_argument("sample", nargs="+", type=Path, metavar="SAMPLE", help="a file or folder")
    compare.add_argument("--model", metavar="NAME", help="of a payload log, this model alone")
    compare.add_argument(
        "--false-alarms", type=float, default=0.01, metavar="SHARE", help="(%(default)s)"
    )
    compare.set_defaults(run=compare_with)


def make(options: argparse.Namespace) -> None:
    """Write a profile."""
    write_profile(options.output, options.sample, options.model)


def write_reference(folder: Path, samples: list[Path], model: str) -> None:
    """Write the profile that a model brings into its folder.

    Raises:
        UsageError: No profile can be made of the samples, or the file is another one's.
    """
    from modelyard.drift.reference import UnusableProfileError, read_profile

    path = folder / REFERENCE_FILE
    try:
        if path.exists():
            read_profile(path)
    except UnusableProfileError as error:
        raise UsageError(f"the file of a reference would replace another: {error}") from error
    write_profile(path, samples, model)


def write_profile(path: Path, samples: list[Path], model: str | None) -> None:
    """Write the profile of samples. ``model``: of payload logs, this one alone.

    Raises:
        UsageError: None can be made of them.
    """
    _see_extra()
    import msgspec

    from modelyard.drift.profile import ProfileError, make_profile

    instances, predictions = _read(samples, model)
    try:
        profile = make_profile(instances, predictions)
    except ProfileError as error:
        raise UsageError(f"{samples[0]}: {error}") from error
    path.write_bytes(msgspec.json.encode(profile))
    names = ", ".join(feature.name for feature in profile.features)
    print(f"{path}: {profile.rows} rows, {len(profile.features)} features: {names}")


def compare_with(options: argparse.Namespace) -> int:
    """Show how a sample compares."""
    _see_extra()
    from modelyard.cli.telling import print_table
    from modelyard.drift.comparing import compare
    from modelyard.drift.profile import columns_of
    from modelyard.drift.reference import UnusableProfileError, read_profile

    try:
        profile = read_profile(options.profile)
    except UnusableProfileError as error:
        raise UsageError(str(error)) from error
    instances, predictions = _read(options.sample, options.model)
    if not instances:
        raise UsageError(f"{options.sample[0]}: there are no rows in it")
    columns = {**columns_of(instances, "request"), **columns_of(predictions, "answer")}
    if not predictions:
        features = [f for f in profile.features if f.name.startswith("request")]
        profile = type(profile)(profile.rows, features)
    compared = compare(profile, columns, rows=len(instances), false_alarms=options.false_alarms)
    shares = ("missing", "outside", "new")
    lines = [
        (
            one.name,
            "drifted" if one.has_drifted else "",
            f"{one.psi:.3f}",
            f"{one.ks:.3f}",
            *(f"{100 * getattr(one, share):.1f} %" for share in shares),
            f"{one.p:.2g}",
        )
        for one in compared
    ]
    print_table([("FEATURE", "", "PSI", "KS", "MISSING", "OUTSIDE", "NEW", "P"), *lines])
    return int(any(one.has_drifted for one in compared))


def _see_extra() -> None:
    if find_spec("psi_inference") is None:
        raise UsageError("drift needs: pip install 'modelyard[drift]'")


def _read(paths: list[Path], model: str | None) -> tuple[list[Any], list[Any]]:
    """Return all instances, and the predictions that are known."""
    instances: list[Any] = []
    predictions: list[Any] = []
    for path in paths:
        try:
            rows = list(_rows_in(path))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}") from error
        for row in rows:
            if isinstance(row, dict) and {"request_id", "request", "answer", "status"} <= set(row):
                if model in (None, row["model"]) and isinstance(row["request"], list):
                    instances += row["request"]
                    predictions += row["answer"] if isinstance(row["answer"], list) else []
            else:
                instances.append(row)
    return instances, predictions


def _rows_in(path: Path) -> Iterator[Any]:
    if path.is_dir():
        files = sorted(path.rglob("*.jsonl"))
        if not files:
            raise ValueError("there is no .jsonl file in it")
        for file in files:
            yield from _rows_in(file)
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                yield {name: _cell(text) for name, text in row.items()}
    elif path.suffix == ".json":
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise ValueError("expected a list of instances")
        yield from found
    elif path.suffix == ".jsonl":
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield json.loads(line)
    else:
        raise ValueError("expected .jsonl, .json, .csv, or a folder of a payload log")


def _cell(text: str | None) -> Any:
    """Return a cell of CSV: a number if it is one, nothing if it is empty."""
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
