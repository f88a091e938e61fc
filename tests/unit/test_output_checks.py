"""Predictions that are not what their annotation says are the model's failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelyard.core.errors import Failure
from modelyard.core.messages import Form
from modelyard.runner.host import HostedModel
from modelyard.runner.loading import LoadError
from tests.unit.model_folders import host

pytestmark = pytest.mark.usefixtures("own_imports")

RETURNS = """\
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from modelyard import Model


class Box(msgspec.Struct):
    label: Literal["cat", "dog"]
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0


class Served(Model):
    example = EXAMPLE

    def predict(self, instances: list[int]) -> GIVES:
        return [VALUE if number else GOOD for number in instances]
"""


def returning(
    tmp_path: Path, gives: str, *, good: str = "0", value: str, checks: str = "", example: int = 0
) -> HostedModel:
    """Load a model that answers 0 with ``good`` and anything else with ``value``."""
    code = RETURNS.replace("GIVES", gives).replace("VALUE", value).replace("GOOD", good)
    code = code.replace("EXAMPLE", f"[{example}]")
    return host(tmp_path, code, f'[checks]\noutput = "{checks}"\n' if checks else "")


WRONG = [
    ("list[int]", "0", "'x'", "Expected `int`, got `str`, at prediction[1]"),
    ("list[int]", "0", "0.5", "Expected `int`, got `float`, at prediction[1]"),
    ("list[list[float]]", "[0.0]", "[0.5, None]", "Expected `float`, got `"),
    ("list[Box]", "Box('cat')", "Box('cow')", "Invalid enum value 'cow', at prediction[1].label"),
    ("list[Box]", "Box('cat')", "Box('dog', 1.5)", "`float` <= 1.0, at prediction[1].share"),
    ("list[Box]", "Box('cat')", "{'labels': 1}", "missing required field `label`, at prediction"),
]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(("gives", "good", "value", "problem"), WRONG)
def test_the_place_is_named_and_others_are_answered(
    tmp_path: Path, *, gives: str, good: str, value: str, problem: str, form: Form
) -> None:
    hosted = returning(tmp_path, gives, good=good, value=value)
    encode = (msgspec.json if form == "json" else msgspec.msgpack).encode
    fine, bad = hosted.answer([encode([0]), encode([0, 1])], [form, form]).outcomes
    assert isinstance(fine, bytes)
    assert isinstance(bad, Failure)
    assert bad.code == "model_failed"
    assert problem in bad.detail
    start = "Served.predict: a prediction does not match its annotation: "
    assert bad.detail.startswith(start)


@pytest.mark.parametrize(
    ("gives", "value", "written"),
    [
        ("list[int]", "np.int64(7)", 7),
        ("list[float]", "np.float32(0.5)", 0.5),
        ("list[float]", "3", 3),
        ("list[list[float]]", "np.array([1.5, 2.5])", [1.5, 2.5]),
        ("list[bool]", "np.bool_(True)", True),
        ("list[Box]", "Box('dog', 0.5)", {"label": "dog", "share": 0.5}),
        ("list[Box]", "{'label': 'dog'}", {"label": "dog"}),
        ("list[Any]", "{'x': [1]}", {"x": [1]}),
        ("list[float | None]", "float('nan')", None),
    ],
)
def test_what_fits_is_answered(tmp_path: Path, gives: str, value: str, written: Any) -> None:
    (output,) = returning(tmp_path, gives, value=value).answer([b"[1]"]).outcomes
    assert isinstance(output, bytes)
    assert json.loads(output) == [written]


@pytest.mark.parametrize("checks", ["", "always", "example"])
def test_an_example_with_a_wrong_answer_keeps_the_model_from_serving(
    tmp_path: Path, checks: str
) -> None:
    hosted = returning(tmp_path, "list[int]", value="'x'", checks=checks, example=1)
    with pytest.raises(LoadError, match=r"Expected `int`, got `str`, at prediction\[0\]"):
        hosted.warm_up()


def test_other_answers_are_not_looked_at_if_so_set(tmp_path: Path) -> None:
    hosted = returning(tmp_path, "list[int]", value="'x'", checks="example")
    hosted.warm_up()
    assert hosted.answer([b"[1]"]).outcomes == [b'["x"]']


def test_no_answer_is_looked_at_if_so_set(tmp_path: Path) -> None:
    hosted = returning(tmp_path, "list[int]", value="'x'", checks="never", example=1)
    hosted.warm_up()
    assert hosted.answer([b"[1]"]).outcomes == [b'["x"]']
