"""``modelyard new``: what it writes can be served."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from modelyard.core.errors import InvalidInput
from modelyard.core.manifest import Manifest
from modelyard.folder import read_manifest
from modelyard.scaffold import ScaffoldError, write_model
from modelyard.testing import ServedModel

pytestmark = pytest.mark.usefixtures("own_imports")


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("fast_iris", "FastIris"),
        ("a", "A"),
        ("9-lives.v2", "Model9LivesV2"),
        ("0", "Model0"),
        ("model", "Model"),
        ("x" * 64, "X" + "x" * 63),
    ],
)
def test_a_new_model_serves(tmp_path: Path, name: str, class_name: str) -> None:
    folder = write_model(name, tmp_path)
    assert folder == tmp_path / name
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.class_) == (name, f"model:{class_name}")
    with ServedModel(folder) as model:
        assert model.predict(["a great film", "an awful film"]) == [2.0, -2.0]
        with pytest.raises(InvalidInput):
            model.predict([1])


def test_a_new_model_passes_its_own_test(tmp_path: Path) -> None:
    folder = write_model("film_score", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    run = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout


def test_the_manifest_shows_the_defaults(tmp_path: Path) -> None:
    folder = write_model("film_score", tmp_path)
    before = read_manifest(folder)
    path = folder / "model.toml"
    shown = re.sub(r"^# (?=\[|[a-z_]+ = )", "", path.read_text(), flags=re.MULTILINE)
    assert "\n[batching]\nmax_batch_size = 64" in shown
    path.write_text(shown)
    assert read_manifest(folder) == before


def test_the_manifest_shows_every_key_and_what_it_means(tmp_path: Path) -> None:
    text = (write_model("film_score", tmp_path) / "model.toml").read_text()
    of_runtimes = ("runtime", "artefact", "allow_pickle", "signature")
    for table in msgspec.structs.fields(Manifest):
        if table.name in of_runtimes:
            continue
        is_table = isinstance(table.type, type) and issubclass(table.type, msgspec.Struct)
        if is_table and table.name != "cache":  # that is written out: see below
            section = re.split(rf"^#? ?\[{table.encode_name}\]", text, flags=re.MULTILINE)[1]
            for field in msgspec.structs.fields(table.type):
                line = rf"^(#.*\n)?(# )?{field.encode_name} = [^#\n]*(#.+)?$"
                found = re.search(line, section.split("\n[")[0], flags=re.MULTILINE)
                assert found, f"{table.encode_name}.{field.encode_name}"
                assert found[1] or found[3], f"{field.encode_name} says what it means"
        else:
            assert re.search(rf"^#? ?\[?{table.encode_name}\b", text, flags=re.MULTILINE)


def test_each_setting_can_be_uncommented_by_itself(tmp_path: Path) -> None:
    path = write_model("film_score", tmp_path) / "model.toml"
    lines, before = path.read_text().splitlines(), read_manifest(path.parent)
    settings = [n for n, line in enumerate(lines) if re.match("# [a-z_]+ = ", line)]
    names = {line.split()[1] for line in (lines[number] for number in settings)}
    assert names >= {"default", "timeout_s", "max_runners", "memory", "variables", "output"}
    for number in settings:
        changed = [*lines[:number], lines[number].removeprefix("# "), *lines[number + 1 :]]
        path.write_text("\n".join(changed))
        assert read_manifest(path.parent) == before


def test_the_cache_is_a_decision_in_the_manifest(tmp_path: Path) -> None:
    text = (write_model("film_score", tmp_path) / "model.toml").read_text()
    assert "the model is not asked again.\n" in text
    assert "\n[cache]\nttl_s = 300\n" in text


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "a b", "a\n", "-", "a" * 65])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="is no model name"):
        write_model(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ScaffoldError, match="exists already"):
        write_model("mine", tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []
