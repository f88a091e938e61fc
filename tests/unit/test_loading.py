"""A model folder that is loaded, or says in one sentence why it cannot be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from modelyard.runner.host import HostedModel
from modelyard.runner.loading import LoadError
from tests.unit.model_folders import DOUBLES, host, predicting, write_folder

pytestmark = pytest.mark.usefixtures("own_imports")

COUNTS_CALLS = """\
from modelyard import Model


class Served(Model):
    example = ["a"]

    def load(self) -> None:
        self.calls = [(self.assets / "greeting.txt").read_text()]

    def warm_up(self) -> None:
        self.calls.append("warm_up")

    def predict(self, instances: list[str]) -> list[str]:
        self.calls.append("predict")
        return [" ".join(self.calls)]

    def unload(self) -> None:
        (self.assets / "unloaded").touch()
"""


def test_a_model_is_loaded_warmed_up_asked_and_unloaded(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", COUNTS_CALLS, assets={"greeting.txt": b"hello"})
    hosted = HostedModel.open(folder)
    ready = hosted.warm_up()
    assert ready.digest.startswith("sha256:")
    assert ready.example == b'["a"]'
    assert msgspec.json.decode(ready.input_schema) == {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
    }
    assert ready.warm_up_s >= 0
    assert hosted.answer([b'["b"]']).outcomes == [b'["hello predict warm_up predict"]']
    hosted.unload()
    assert (folder / "assets" / "unloaded").exists()


def test_a_model_without_an_example_has_none(tmp_path: Path) -> None:
    assert host(tmp_path, predicting("return instances")).warm_up().example == b"null"


TWO_MODELS = predicting("return instances").replace("Served", "One")
TWO_MODELS += "\nclass Two(One):\n    pass\n\nclass Both:\n    pass\n"
NO_PREDICT = "from modelyard import Model\n\nclass Served(Model):\n    pass\n"
NOT_A_MODEL = "class Served:\n    pass\n"
UNANNOTATED = (
    "from modelyard import Model\n\nclass Served(Model):\n"
    "    def predict(self, instances):\n        return instances\n"
)
LOAD_RAISES = predicting("return instances") + (
    "    def load(self):\n        raise RuntimeError('the weights are those of a rose')\n"
)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1\n", "src/model.py has no Served; model.toml says class = 'model:Served'"),
        (
            TWO_MODELS,
            "src/model.py has no Served; model.toml says class = 'model:Served'; its models are "
            'One, Two: write class = "model:One" or "model:Two" in model.toml',
        ),
        (
            TWO_MODELS + "Served = Both\n",
            "src/model.py: Served is no Model; its models are One, Two: write class = ",
        ),
        (NOT_A_MODEL, "src/model.py: write `class Served(Model):`"),
        ("Served = 1\n", "src/model.py: write `class Served(Model):`"),
        (NO_PREDICT, "src/model.py: Served has no predict; write `def predict(self, instances"),
        (UNANNOTATED, "src/model.py: Served.predict: its argument has no annotation; write def"),
        ("x = 1\nclass Served(\n", "SyntaxError: "),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero (src/model.py:1)"),
        (LOAD_RAISES, "RuntimeError: the weights are those of a rose (src/model.py:7)"),
    ],
)
def test_a_class_that_cannot_be_served_says_why(tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(LoadError) as caught:
        host(tmp_path, code)
    assert str(caught.value).startswith(reason)


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"model\.py:2\)$"):
        host(tmp_path, "x = 1\nclass Served(\n")


def test_a_missing_module_is_looked_for_in_the_requirements(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"is it in the model's requirements\.txt, and installed"):
        host(tmp_path, "import no_such_module\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", DOUBLES)
    (folder / "src" / "model.py").unlink()
    with pytest.raises(LoadError, match=r"src/model\.py is missing; model\.toml says class ="):
        HostedModel.open(folder)


@pytest.mark.parametrize("manifest", ["[cache]\nttl = 1\n", "x ="])
def test_a_wrong_manifest_is_told_with_its_line(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(LoadError, match=r"m/model\.toml:[45]: "):
        host(tmp_path, DOUBLES, manifest)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ('["1"]', "Expected `int`, got `str`, at example[0]"),
        ("[]", "there are no instances, at example"),
        (
            "1",
            "Expected `array`, got `int`, at example; the example is a list of instances, and this "
            "is one instance: put it into a list",
        ),
        ("[13]", "the model raised ValueError: unlucky (src/model.py:9)"),
    ],
)
def test_an_example_that_cannot_be_answered_keeps_the_model_from_serving(
    tmp_path: Path, example: str, reason: str
) -> None:
    hosted = host(tmp_path, DOUBLES.replace("[1]", example))
    with pytest.raises(LoadError) as caught:
        hosted.warm_up()
    assert str(caught.value).startswith(f"the model's own example: {reason}")


ARRAYS = """\
from typing import Annotated

import numpy as np

from modelyard import Columns, Model, Tensor


class Point(Columns):
    x: Annotated[np.ndarray, Tensor("float64")]


class Served(Model):
    example = EXAMPLE

    def predict(self, instances: TAKES) -> list[float]:
        return instances
"""


@pytest.mark.parametrize(
    ("takes", "example", "advice"),
    [
        (
            "Annotated[np.ndarray, Tensor('float32', (2, 3))]",
            "np.zeros((2, 3))",
            "this is one instance: write example[None], axis 0 is the batch",
        ),
        (
            "Point",
            "Point(x=np.array(3.0))",
            "this is one instance: put it into a list, or give its arrays a batch axis",
        ),
        ("list[dict[str, int]]", "{'a': 1}", "this is one instance: put it into a list"),
    ],
)
def test_an_example_that_is_one_instance_is_told_so(
    tmp_path: Path, takes: str, example: str, advice: str
) -> None:
    hosted = host(tmp_path, ARRAYS.replace("TAKES", takes).replace("EXAMPLE", example))
    with pytest.raises(LoadError) as caught:
        hosted.warm_up()
    assert f"; the example is a list of instances, and {advice}" in str(caught.value)


def test_a_warm_up_that_raises_keeps_the_model_from_serving(tmp_path: Path) -> None:
    code = predicting("return instances") + "    def warm_up(self):\n        1 / 0\n"
    hosted = host(tmp_path, code)
    with pytest.raises(LoadError, match=r"ZeroDivisionError: division by zero \(src/model\.py:7"):
        hosted.warm_up()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_an_artefact_is_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    manifest = f'[artefacts]\n"weights.bin" = "{digest_of(b"good")}"\n'
    folder = write_folder(
        tmp_path / "m", LOAD_RAISES, manifest=manifest, assets={"weights.bin": b"bad"}
    )
    with pytest.raises(LoadError) as caught:
        HostedModel.open(folder)
    assert str(caught.value) == (
        "FolderError: assets/weights.bin is damaged: "
        f"model.toml says {digest_of(b'good')}, it is {digest_of(b'bad')}"
    )
    (folder / "assets" / "weights.bin").unlink()
    with pytest.raises(LoadError, match=r"assets/weights\.bin is missing; model\.toml lists it"):
        HostedModel.open(folder)


def test_an_artefact_that_is_what_it_should_be_is_accepted(tmp_path: Path) -> None:
    manifest = f'[artefacts]\n"nested/weights.bin" = "{digest_of(b"good")}"\n'
    folder = write_folder(
        tmp_path / "m", DOUBLES, manifest=manifest, assets={"nested/weights.bin": b"good"}
    )
    answers = HostedModel.open(folder).answer([b"[1]"])
    assert answers.outcomes == [b"[2]"]
