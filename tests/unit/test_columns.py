"""Models of several named arrays: in JSON by instance, in MessagePack by column, as tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest

from modelyard import Columns, Tensor
from modelyard.arrays import ext_hook, pack_array
from modelyard.core.errors import InvalidInput
from modelyard.core.instances import count_instances
from modelyard.core.lists import ContractError
from modelyard.testing import ServedModel
from tests.unit.contracts import contract_for
from tests.unit.model_folders import write_folder
from tests.unit.tensors import ask, binary, question, tensor


class Scene(Columns):
    image: Annotated[np.ndarray, Tensor("float32", (2,))]
    size: Annotated[np.ndarray, Tensor("int64", name="pixels")]


ROWS = [{"image": [1.5, 2.5], "size": 3}, {"image": [3.5, 4.5], "size": 4}]
IMAGES, SIZES = np.array([[1.5, 2.5], [3.5, 4.5]], "<f4"), np.array([3, 4])


def by_column(**columns: Any) -> bytes:
    return msgspec.msgpack.encode(columns, enc_hook=pack_array)


def test_in_json_instances_stand_one_by_one() -> None:
    contract = contract_for(Scene, Scene)
    scene: Any = contract.decode(json.dumps(ROWS).encode())
    assert isinstance(scene, Scene)
    assert len(scene) == 2
    assert scene.image.dtype == "float32"
    assert np.array_equal(scene.image, IMAGES)
    assert json.loads(contract.encode(scene)) == ROWS
    assert json.loads(contract.encode_instances(scene)) == ROWS


def test_in_messagepack_they_stand_by_column() -> None:
    contract = contract_for(Scene, Scene)
    raw = by_column(image=IMAGES, size=SIZES)
    assert count_instances(memoryview(raw), "msgpack") == 2
    scene = contract.decode(raw, "msgpack")
    answer = msgspec.msgpack.decode(contract.encode(scene, "msgpack"), ext_hook=ext_hook)
    assert list(answer) == ["image", "size"]
    assert np.array_equal(answer["image"], IMAGES)
    assert np.array_equal(answer["size"], SIZES)


def test_in_messagepack_they_may_stand_one_by_one_as_well() -> None:
    scene: Any = contract_for(Scene).decode(msgspec.msgpack.encode(ROWS), "msgpack")
    assert np.array_equal(scene.image, IMAGES)


def test_as_tensors_each_column_is_one() -> None:
    contract = contract_for(Scene, Scene)
    assert json.loads(contract.tensors)["outputs"] == [
        {"name": "image", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "pixels", "datatype": "INT64", "shape": [-1]},
    ]
    asked = question(
        tensor([3, 4], "UINT8", [2], name="pixels"),
        binary(16, "FP32", [2, 2], name="image"),
        tail=IMAGES.tobytes(),
        outputs=[{"name": "pixels"}, {"name": "image", "parameters": {"binary_data": True}}],
    )
    outputs, tail = ask(contract, asked)
    assert [found["name"] for found in outputs] == ["pixels", "image"]
    assert outputs[0]["data"] == [3, 4]
    assert tail == IMAGES.tobytes()


def test_requests_are_stacked_and_split_again() -> None:
    contract = contract_for(Scene, Scene)
    parts = [contract.decode(json.dumps([row]).encode()) for row in ROWS]
    scene = contract.join(parts)
    assert contract.check_predictions(scene, count=2) is None
    assert [json.loads(contract.encode(scene[n : n + 1])) for n in (0, 1)] == [[r] for r in ROWS]


@pytest.mark.parametrize(
    ("raw", "where", "problem"),
    [
        (by_column(image=IMAGES), "$.input_data", "takes image, size"),
        (by_column(image=IMAGES, size=SIZES, more=SIZES), "$.input_data", "image, size, more"),
        (by_column(image=IMAGES, size=SIZES[:1]), "$.input_data", "2 in image, 1 in size"),
        (by_column(image=IMAGES.T, size=SIZES[:0]), "$.input_data", "2 in image, 0 in size"),
        (by_column(image=IMAGES, size=IMAGES), "$.input_data.size", "shape (2, 2)"),
        (by_column(image=IMAGES.astype("f8"), size=SIZES), "$.input_data.image", "float64"),
        (by_column(image=IMAGES[:0], size=SIZES[:0]), "$.input_data", "no instances"),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, where: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        contract_for(Scene).decode(raw, "msgpack")
    assert caught.value.where == where
    assert problem in caught.value.detail


def test_a_wrong_field_of_an_instance_is_named() -> None:
    for row, where in (
        ({"image": [1], "size": 1}, "$.input_data[1].image"),
        ({"image": [1, 2], "size": 1, "more": 1}, "$.input_data[1]"),
    ):
        with pytest.raises(InvalidInput) as caught:
            contract_for(Scene).decode(json.dumps([ROWS[0], row]).encode())
        assert caught.value.where == where


def test_inputs_are_of_one_length() -> None:
    asked = question(
        tensor([3], "INT64", [1], name="pixels"),
        tensor([1, 2, 3, 4], "FP32", [2, 2], name="image"),
    )
    with pytest.raises(InvalidInput, match=r"there are \[1, 2\]"):
        contract_for(Scene).decode_tensors(asked)


def test_predictions_are_looked_at_column_by_column() -> None:
    contract = contract_for(Scene, Scene)
    for scene, problem in (
        (Scene(image=IMAGES, size=SIZES[:1]), "shape (1,) where (2,) is expected, in size"),
        (Scene(image=IMAGES.tolist(), size=SIZES), "returned list where a numpy array"),
        (IMAGES, "returned ndarray where Scene is expected"),
    ):
        assert problem in str(contract.check_predictions(scene, count=2))


def test_what_cannot_be_served_says_what_to_write() -> None:
    class Loose(Columns):
        a: list[int]

    class Twice(Columns):
        a: Annotated[np.ndarray, Tensor("int8")]
        b: Annotated[np.ndarray, Tensor("int8", name="a")]

    for kind, problem in (
        (Loose, r"Loose\.a is no declared array; write a: Annotated"),
        (Columns, "declares no array"),
        (Twice, "Twice has two tensors of the name 'a'"),
    ):
        with pytest.raises(ContractError, match=problem):
            contract_for(kind)


class PointLike(Columns):
    x: Annotated[np.ndarray, Tensor("float64")]
    y: Annotated[np.ndarray, Tensor("float64")]


SERVED = """\
from typing import Annotated
import numpy as np
from modelyard import Columns, Model, Tensor

class Point(Columns):
    x: Annotated[np.ndarray, Tensor("float64")]
    y: Annotated[np.ndarray, Tensor("float64")]

class Polar(Columns):
    radius: Annotated[np.ndarray, Tensor("float64")]
    is_origin: Annotated[np.ndarray, Tensor("bool")]

class Served(Model):
    example = Point(x=np.array([3.0]), y=np.array([4.0]))

    def predict(self, instances: Point) -> Polar:
        radius = np.hypot(instances.x, instances.y)
        return Polar(radius=radius, is_origin=radius == 0)
"""


def test_a_model_takes_and_gives_several_arrays(tmp_path: Path) -> None:
    with ServedModel(write_folder(tmp_path / "m", SERVED)) as model:
        rows = [{"x": 3, "y": 4}, {"x": 0, "y": 0}]
        assert model.predict(rows) == [
            {"radius": 5.0, "is_origin": False},
            {"radius": 0.0, "is_origin": True},
        ]
        polar = model.predict(PointLike(x=np.array([3.0, 0]), y=np.array([4.0, 0])))
        assert polar["radius"].tolist() == [5, 0]
        assert polar["is_origin"].tolist() == [False, True]
        assert model.input_schema["items"]["$ref"] == "#/$defs/Point"
