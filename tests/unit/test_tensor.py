"""Models that take and give numpy arrays."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from modelyard.core.arrays import Tensor
from modelyard.core.contract import Contract
from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.lists import UnfitPredictions
from tests.unit.contracts import contract_for

SIGNED = ["int8", "int16", "int32", "int64"]
UNSIGNED = ["uint8", "uint16", "uint32"]
FLOATS = ["float16", "float32", "float64"]

shapes = st.lists(st.integers(min_value=1, max_value=3), max_size=3).map(tuple)


def arrays_of(dtype: str, shape: tuple[int, ...] = ()) -> Contract:
    array = Annotated[np.ndarray, Tensor(dtype, shape)]
    return contract_for(array, array)


@pytest.mark.parametrize("dtype", ["bool", *SIGNED, *UNSIGNED, "uint64", *FLOATS])
@given(data=st.data(), shape=shapes, count=st.integers(min_value=1, max_value=3))
def test_an_array_survives_the_way_through_json(
    dtype: str, data: st.DataObject, shape: tuple[int, ...], count: int
) -> None:
    elements = {"allow_nan": False, "allow_infinity": False} if dtype in FLOATS else None
    sent = data.draw(st_np.arrays(dtype, (count, *shape), elements=elements))
    contract = arrays_of(dtype, shape)
    received: Any = contract.decode(contract.encode(sent))
    assert received.dtype == sent.dtype
    assert received.shape == sent.shape
    assert np.array_equal(received, sent)
    assert contract.check_predictions(received, count=count) is None


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED])
@given(number=st.integers() | st.integers(min_value=-300, max_value=300))
def test_an_integer_out_of_range_is_invalid(dtype: str, number: int) -> None:
    contract = arrays_of(dtype)
    raw = contract.encode_instances([number])
    if np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
        assert contract.decode(raw)[0:1] == np.array([number])
    else:
        with pytest.raises(InvalidInput):
            contract.decode(raw)


@pytest.mark.parametrize(
    ("dtype", "raw"), [("float16", b"[7e4]"), ("float32", b"[1e39]"), ("float32", b"[-1e39]")]
)
def test_a_float_out_of_range_is_invalid(dtype: str, raw: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"Expected `float` [<>]="):
        arrays_of(dtype).decode(raw)


@pytest.mark.parametrize("raw", [b"[[1, NaN]]", b"[[1, 1e999]]", b"[[1, Infinity]]"])
def test_no_array_holds_what_is_no_number(raw: bytes) -> None:
    with pytest.raises(Malformed):
        arrays_of("float64", (2,)).decode(raw)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"[]", "$.input_data"),
        (b"[1, 2]", "$.input_data[0]"),
        (b"[[1]]", "$.input_data[0]"),
        (b"[[1, 2, 3]]", "$.input_data[0]"),
        (b"[[1, 2], [3]]", "$.input_data[1]"),
        (b"[[1, 2], 3]", "$.input_data[1]"),
        (b"[[1, [2]]]", "$.input_data[0][1]"),
        (b"[[1, null]]", "$.input_data[0][1]"),
        (b'[[1, "2"]]', "$.input_data[0][1]"),
        (b"[[1, true]]", "$.input_data[0][1]"),
    ],
)
def test_instances_of_another_shape_are_invalid(raw: bytes, where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        arrays_of("float32", (2,)).decode(raw)
    assert caught.value.where == where


@given(st.lists(st.integers(min_value=1, max_value=4), min_size=1, max_size=5), shapes)
def test_what_is_joined_can_be_split_again(sizes: list[int], shape: tuple[int, ...]) -> None:
    numbers = iter(range(10_000))
    parts = [
        np.fromiter(numbers, np.int32, size * int(np.prod(shape))).reshape(size, *shape)
        for size in sizes
    ]
    joined: Any = arrays_of("int32", shape).join(parts)
    split = np.split(joined, np.cumsum(sizes)[:-1])
    assert all(np.array_equal(*pair) for pair in zip(split, parts, strict=True))


@pytest.mark.parametrize(
    ("predictions", "problem"),
    [
        (np.zeros((3, 2)), None),
        (np.zeros((2, 2)), "returned shape (2, 2) where (3, 2) is expected"),
        (np.zeros(3), "returned shape (3,) where (3, 2) is expected"),
        ([[0, 0]] * 3, "returned list where a numpy array is expected"),
        (None, "returned NoneType where a numpy array is expected"),
    ],
)
def test_predictions_have_the_declared_shape(predictions: Any, problem: str | None) -> None:
    assert arrays_of("float64", (2,)).check_predictions(predictions, count=3) == problem


@pytest.mark.parametrize(
    ("dtype", "given", "fits"),
    [
        ("int8", "int64", [127, -128]),
        ("int8", "uint8", [127, 0]),
        ("float32", "float64", [0.1, 3.4028235e38, float("nan"), float("-inf")]),
        ("float16", "float32", [65504, 1e-9]),
        ("float32", "int64", [2**63 - 1]),
        ("float64", "float32", [float("inf")]),
    ],
)
def test_predictions_are_rounded_to_the_declared_dtype(
    dtype: str, given: str, fits: list[float]
) -> None:
    predictions = np.array(fits, dtype=given)
    assert arrays_of(dtype).check_predictions(predictions, count=len(fits)) is None


@pytest.mark.parametrize(
    ("dtype", "given", "number"),
    [
        ("int8", "int64", 128),
        ("int8", "int64", -129),
        ("float32", "float64", 1e300),
        ("float32", "float64", -1e39),
        ("float16", "float32", 7e4),
        ("float16", "int64", 70_000),
    ],
)
def test_a_prediction_that_the_dtype_cannot_represent_is_named(
    dtype: str, given: str, number: float
) -> None:
    predictions = np.array([7, number], dtype=given)
    problem = f"returned {predictions[1]} of {given}, which {dtype} cannot represent"
    with pytest.raises(UnfitPredictions, match=re.escape(problem)):
        arrays_of(dtype).check_predictions(predictions, count=2)


def test_the_schema_shows_shape_and_range() -> None:
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    row = {"type": "array", "items": pixel, "minItems": 3, "maxItems": 3}
    image = {"type": "array", "items": row, "minItems": 2, "maxItems": 2}
    schema = json.loads(arrays_of("uint8", (2, 3)).input_schema)
    assert schema == {"type": "array", "items": image, "minItems": 1}
