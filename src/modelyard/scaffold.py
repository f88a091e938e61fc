"""``modelyard new``: writes a model folder that serves and passes its own test."""

from __future__ import annotations

import hashlib
import json
import keyword
from pathlib import Path

from modelyard.core.names import is_name

WORDS = {"good": 1.0, "great": 2.0, "love": 2.0, "bad": -1.0, "awful": -2.0, "hate": -2.0}

MANIFEST = """\
name = "{name}"
version = "1"
class = "model:{class_name}"
description = "Scores a text by the words in it. Replace me."

# All that can be set, with the defaults:
#
# [cache]
# ttl_s = 300          # seconds; 0 if the answer is not a function of the input
# [batching]
# max_batch_size = 64  # instances
# batch_wait_ms = 0
# [limits]
# timeout_s = 30
# max_in_flight = 1000
# [scaling]
# min_runners = 1
# max_runners = 1
# [resources]
# cpu = "500m"
# memory = "256Mi"

[artefacts]            # checked before load; `sha256sum assets/*` tells
"words.json" = "sha256:{digest}"
"""

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

from modelyard.core.errors import InvalidInput
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
    """Write a model called ``name`` into a new folder under ``into``; gives the folder.

    Raises:
        ScaffoldError: The name is none, or the folder exists.
    """
    if not is_name(name):
        raise ScaffoldError(
            f"{name!r} is no model name: lower-case letters, digits, '.', '_' and '-', at most 64"
        )
    folder = into / name
    if folder.exists():
        raise ScaffoldError(f"{folder} exists already")
    words = json.dumps(WORDS, indent=2) + "\n"
    parts = "".join(c if c.isalnum() else " " for c in name).split()
    class_name = "".join(part.capitalize() for part in parts)
    if class_name[0].isdigit() or keyword.iskeyword(class_name):
        class_name = f"Model{class_name}"
    fields = {
        "name": name,
        "class_name": class_name,
        "digest": hashlib.sha256(words.encode()).hexdigest(),
    }
    files = {
        "model.toml": MANIFEST.format(**fields),
        "src/model.py": MODEL.format(**fields),
        "assets/words.json": words,
        "requirements.txt": REQUIREMENTS,
        # A name of its own: pytest takes two modules of one name for the same.
        f"tests/test_{'_'.join(parts)}.py": TEST.format(**fields),
    }
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder
