"""What a test of a model can ask it: lists, arrays, files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from modelyard import InvalidInput
from modelyard.core.errors import Malformed, ModelFailed
from modelyard.testing import ServedModel
from tests.unit.model_folders import DOUBLES, write_folder

pytestmark = pytest.mark.usefixtures("own_imports")

SUMS = """\
from typing import Annotated

import numpy as np

from modelyard import Model, Tensor


class Served(Model):
    example = np.zeros((1, 2), "float32")

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("float32", (2,))]
    ) -> Annotated[np.ndarray, Tensor("float64")]:
        return instances.sum(axis=1, dtype="float64")
"""

LENGTHS = """\
from typing import Annotated

import msgspec

from modelyard import Model


class Served(Model):
    example = [b"abc"]

    def predict(
        self, instances: list[Annotated[KIND, msgspec.Meta(min_length=2)]]
    ) -> list[tuple[int, str]]:
        return [(len(instance), type(instance).__name__) for instance in instances]
"""


def test_an_array_is_answered_with_one(tmp_path: Path) -> None:
    with ServedModel(write_folder(tmp_path / "m", SUMS)) as model:
        given = model.predict(np.ones((3, 2), "float32"))
        assert isinstance(given, np.ndarray)
        assert (given.dtype, given.tolist()) == (np.dtype("float64"), [2.0] * 3)
        assert model.predict([[1, 2]]) == [3.0]
        first, second = model.predict_batch([np.ones((1, 2), "float16"), [[2, 2], [3, 3]]])
        assert (first.tolist(), second) == ([2.0], [4.0, 6.0])
        with pytest.raises(InvalidInput, match="the array is float64, the model takes float32"):
            model.predict(np.ones((3, 2)))


def test_an_array_for_a_model_of_lists_is_sent_as_lists(tmp_path: Path) -> None:
    with ServedModel(write_folder(tmp_path / "m", DOUBLES)) as model:
        assert model.predict(np.array([1, 2])) == [2, 4]


def test_what_a_model_raises_is_told_in_full(tmp_path: Path) -> None:
    with (
        ServedModel(write_folder(tmp_path / "m", DOUBLES)) as model,
        pytest.raises(ModelFailed, match=r"ValueError: unlucky \(src/model\.py:9\)"),
    ):
        model.predict([13])


def test_a_model_of_bytes_takes_them_in_every_form(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", LENGTHS.replace("KIND", "bytes"))
    with ServedModel(folder) as model:
        assert model.predict([b"\xff\x00", b"abc"]) == [[2, "bytes"], [3, "bytes"]]
        assert model.predict(["//8A"]) == [[3, "bytes"]]  # base64, as JSON has no bytes
        assert model.predict_raw(b"\xff\x00") == [2, "bytes"]
        with pytest.raises(InvalidInput, match=r"Expected `bytes` of length >= 2"):
            model.predict_raw(b"x")
        hosted = model._hosted
        packed = hosted.answer([msgspec.msgpack.encode([b"\xff\x00"])], ["msgpack"])
        assert packed.outcomes == [msgspec.msgpack.encode([(2, "bytes")])]


def test_a_model_of_texts_takes_one_as_it_is(tmp_path: Path) -> None:
    code = LENGTHS.replace("KIND", "str").replace('b"abc"', '"abc"')
    with ServedModel(write_folder(tmp_path / "m", code)) as model:
        assert model.predict_raw("Zoë".encode()) == [3, "str"]
        with pytest.raises(Malformed, match="'utf-8' codec can't decode"):
            model.predict_raw(b"\xff")


def test_a_model_of_neither_says_what_to_send(tmp_path: Path) -> None:
    for number, code in enumerate((DOUBLES, SUMS)):
        folder = write_folder(tmp_path / str(number), code)
        with ServedModel(folder) as model, pytest.raises(InvalidInput, match="application/json"):
            model.predict_raw(b"abc")
