"""``modelyard new``: writes a model folder that serves and passes its own test: with a class to
begin from, or around an artefact.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import shutil
import textwrap
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelyard.core.artefacts import LIBRARIES, Runtime
from modelyard.core.fingerprint import digest_stream
from modelyard.core.manifest import Cache
from modelyard.core.manifest_keys import Key, keys
from modelyard.core.names import NAME_RULE, is_name
from modelyard.folder import list_assets

WORDS = {"good": 1.0, "great": 2.0, "love": 2.0, "bad": -1.0, "awful": -2.0, "hate": -2.0}
EXAMPLE = '["a great film"]'
WIDTH = 100
_WRITTEN = {"name", "version", "class", "description", "cache", "artefacts"}
_OF_RUNTIMES = {"runtime", "artefact", "allow_pickle"}

MANIFEST = """\
name = "{name}"
version = "1"
class = "model:{class_name}"
description = "Scores a text by the words in it. Replace me."
{keys}
# The same input gets the same answer for so many seconds, and the model is not asked again.
# 0 if the answer depends on more than the input: on chance, on the time, on a database.
[cache]
ttl_s = {ttl_s:g}

[artefacts]  # checked before load; `sha256sum assets/*` tells
"words.json" = "sha256:{digest}"

# All else that can be set, with the defaults: remove the `# ` before a key to change it.
{tables}"""

ARTEFACT_MANIFEST = """\
name = "{name}"
version = "1"
runtime = "{runtime}"
artefact = "{artefact}"
{keys}
# The same input gets the same answer for so many seconds, and the model is not asked again.
[cache]
ttl_s = {ttl_s:g}

[artefacts]  # checked before load; `sha256sum assets/*` tells
{digests}

# All else that can be set, with the defaults: remove the `# ` before a key to change it.
{tables}"""

ARTEFACT_TEST = '''\
"""{name}, through the codec and the checks of the real thing."""

from pathlib import Path

from modelyard.testing import ServedModel


def test_answers_its_example() -> None:
    with ServedModel(Path(__file__).parents[1]) as model:
        assert len(model.predict(model.example)) == len(model.example)
'''

MODEL = '''\
"""{name}: say here what it predicts, from what, in which units."""

import json

from modelyard import Model


class {class_name}(Model):
    example = ["a great film"]

    def load(self) -> None:
        self.words = json.loads((self.assets / "words.json").read_text())

    def predict(self, instances: list[str]) -> list[float]:
        return [sum(self.words.get(word, 0.0) for word in text.split()) for text in instances]
'''

TEST = '''\
"""{name}, through the codec and the checks of the real thing."""

from pathlib import Path

import pytest

from modelyard import InvalidInput
from modelyard.testing import ServedModel

FOLDER = Path(__file__).parents[1]


def test_scores_by_words() -> None:
    with ServedModel(FOLDER) as model:
        assert model.predict(["a great film", "an awful film"]) == [2.0, -2.0]


def test_refuses_what_is_no_text() -> None:
    with ServedModel(FOLDER) as model, pytest.raises(InvalidInput):
        model.predict([1])
'''

REQUIREMENTS = "# What the model needs beside modelyard, one pinned package per line.\n"


class ScaffoldError(Exception):
    """The model cannot be written; the text says why."""


def write_model(name: str, into: Path) -> Path:
    """Write a model called ``name`` into a new folder under ``into``; returns the folder.

    Raises:
        ScaffoldError: The name is none, or the folder exists.
    """
    folder = _new_folder(name, into)
    words = json.dumps(WORDS, indent=2) + "\n"
    parts = _parts_of(name)
    class_name = "".join(part.capitalize() for part in parts)
    if class_name[0].isdigit() or keyword.iskeyword(class_name):
        class_name = f"Model{class_name}"
    fields = {"name": name, "class_name": class_name}
    left_out = _WRITTEN | _OF_RUNTIMES | {"signature"}
    manifest = MANIFEST.format(
        **fields,
        ttl_s=Cache().ttl_s,
        digest=hashlib.sha256(words.encode()).hexdigest(),
        keys=describe_others(left_out, in_tables=False),
        tables=describe_others(left_out, in_tables=True),
    )
    files = {
        "model.toml": manifest,
        "src/model.py": MODEL.format(**fields),
        "assets/words.json": words,
        "requirements.txt": REQUIREMENTS,
        # A name of its own: pytest takes two modules of one name for the same.
        f"tests/test_{'_'.join(parts)}.py": TEST.format(**fields),
    }
    _write(folder, files)
    return folder


def wrap_artefact(name: str, into: Path, source: Path, runtime: Runtime) -> Path:
    """Write a model around a copy of an artefact, a file or MLflow's folder; see ``write_model``.

    Raises:
        ScaffoldError: The name is none, or the folder exists.
    """
    folder = _new_folder(name, into)
    assets = folder / "assets"
    try:
        assets.mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, assets, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, assets / source.name)
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be written: {error.strerror or error}") from error
    digests = []
    for path in list_assets(folder):
        with (assets / path).open("rb") as stream:
            digests.append(f"{json.dumps(path)} = {json.dumps(digest_stream(stream))}")
    left_out = _WRITTEN - {"description"} | _OF_RUNTIMES
    manifest = ARTEFACT_MANIFEST.format(
        name=name,
        runtime=runtime,
        artefact="assets" if source.is_dir() else f"assets/{source.name}",
        ttl_s=Cache().ttl_s,
        digests="\n".join(digests),
        keys=describe_others(left_out, in_tables=False),
        tables=describe_others(left_out, in_tables=True),
    )
    needed = "".join(f"{_pin(names)}\n" for names in LIBRARIES[runtime])
    files = {
        "model.toml": manifest,
        "requirements.txt": REQUIREMENTS + needed,
        f"tests/test_{'_'.join(_parts_of(name))}.py": ARTEFACT_TEST.format(name=name),
    }
    _write(folder, files)
    return folder


def _new_folder(name: str, into: Path) -> Path:
    if not is_name(name):
        raise ScaffoldError(f"{name!r} is no model name: {NAME_RULE}")
    folder = into / name
    if folder.exists():
        raise ScaffoldError(f"{folder} exists already")
    return folder


def _parts_of(name: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in name).split()


def _pin(names: Collection[str]) -> str:
    """Return the first of the packages that is installed, with its version, else the first."""
    for name in names:
        try:
            return f"{name}=={version(name)}"
        except PackageNotFoundError:
            continue
    return next(iter(names))


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be written: {error.strerror or error}") from error


def describe_others(left_out: Collection[str], *, in_tables: bool) -> str:
    """Return what a new model leaves alone in its ``model.toml``, as comments: each key with its
    default and what it means, but for those, and the tables, that are ``left_out``. Either the keys
    above the tables, or the tables; these have their headers, so that each key can be uncommented
    by itself.
    """
    lines: list[str] = []
    table = ""
    for key in keys():
        if bool(key.table) != in_tables or (key.table or key.name) in left_out:
            continue
        if key.table != table:
            table = key.table
            lines += ["", f"[{table}]"]  # no comment: else a key would join the table before it
        lines += _describe(key)
    return "".join(f"{line}\n" for line in lines)


def _describe(key: Key) -> list[str]:
    setting = f"# {key.name} = {key.default}"
    line = f"{setting:30}  # {key.meaning}"
    if len(line) <= WIDTH:
        return [line]
    return [*(f"# # {part}" for part in textwrap.wrap(key.meaning, WIDTH - 4)), setting]
