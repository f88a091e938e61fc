"""Model folders: found, and digested with all that an answer depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.manifest import ManifestError
from modelyard.core.names import Target
from modelyard.folder import FolderError, digest_folder, find_models, read_manifest, read_manifests
from tests.unit.model_folders import write_folder

CODE = "x = 1\n"


def digest_of(folder: Path) -> str:
    return digest_folder(folder, read_manifest(folder))


def test_models_are_found_in_a_folder_and_one_level_below(tmp_path: Path) -> None:
    b, a = write_folder(tmp_path / "all" / "b", CODE), write_folder(tmp_path / "all" / "a", CODE)
    alone = write_folder(tmp_path / "alone", CODE)
    write_folder(tmp_path / "all" / "deep" / "deeper", CODE)
    (tmp_path / "all" / "no_model").mkdir()
    assert find_models([alone, tmp_path / "all"]) == [alone, a, b]


def test_a_model_named_twice_is_found_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", CODE)
    assert find_models([folder, tmp_path, folder / ".." / "a"]) == [folder]


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere", "no such folder or file"), ("empty", "`modelyard new`")]
)
def test_a_folder_without_a_model_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError) as caught:
        find_models([tmp_path / name])
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    folder = write_folder(tmp_path / "a", CODE)
    (folder / "model.toml").unlink()
    if content is not None:
        (folder / "model.toml").write_bytes(content)
    with pytest.raises(ManifestError, match=r"a/model\.toml:1: cannot be read: "):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["src/model.py", "model.toml", "assets/w.bin", "train.py"])
def test_the_digest_changes_with_what_the_model_is_made_of(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "a", CODE, assets={"w.bin": b"0"})
    (folder / "train.py").write_text("y = 2\n")
    before = digest_of(folder)
    with (folder / name).open("a") as stream:
        stream.write("# changed\n")
    assert digest_of(folder) != before


@pytest.mark.parametrize("name", ["tests/test_model.py", "src/__pycache__/model.pyc", ".git/HEAD"])
def test_the_digest_does_not_change_with_what_changes_no_answer(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "a", CODE)
    before = digest_of(folder)
    (folder / name).parent.mkdir()
    (folder / name).write_text("changed")
    (folder / ".hidden").write_text("changed")
    assert digest_of(folder) == before


def test_the_digest_is_that_of_a_copy_elsewhere(tmp_path: Path) -> None:
    one, other = (write_folder(tmp_path / name, CODE, assets={"w": b"0"}) for name in ("a", "b"))
    assert digest_of(one) == digest_of(other)


def test_one_bad_manifest_leaves_the_others_usable(tmp_path: Path) -> None:
    good = write_folder(tmp_path / "good", CODE)
    unknown_key = write_folder(tmp_path / "typo", CODE, manifest="[cache]\nttl = 1\n")
    no_toml = write_folder(tmp_path / "broken", CODE, manifest="x =\n")
    too_deep = write_folder(tmp_path / "deep", CODE, manifest="x = " + "[" * 5000)
    no_name = write_folder(tmp_path / "No Name", CODE)
    (no_name / "model.toml").write_text("")
    gone = tmp_path / "gone"
    found, bad = read_manifests([good, unknown_key, no_toml, too_deep, no_name, gone])
    assert [(folder, manifest.target) for folder, manifest in found] == [(good, Target("m", "1"))]
    assert [(one.folder, one.target) for one in bad] == [
        (unknown_key, Target("m", "1")),
        (no_toml, Target("broken", "0")),
        (too_deep, Target("deep", "0")),
        (no_name, None),
        (gone, Target("gone", "0")),
    ]
    assert "model.toml:5: cache.ttl: " in str(bad[0].error)
