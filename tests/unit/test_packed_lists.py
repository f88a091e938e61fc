"""An array that is sent to a model of lists: the model gets the lists that it declares."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard import Model
from modelyard.arrays import pack_array
from modelyard.core.contract import contract_of
from modelyard.core.errors import InvalidInput, RequestError
from modelyard.core.packed import EXTENSION_CODE, read_packed, to_lists

Row = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]


class OfRows(Model):
    def predict(self, instances: list[Row]) -> list[int]:
        return [0 for _ in instances]


CONTRACT = contract_of(OfRows)


def packed(array: Any) -> bytes:
    return msgspec.msgpack.encode(array, enc_hook=pack_array)


shapes = st.builds(
    lambda count, instance: [count, *instance],
    st.integers(0, 4),
    st.lists(st.integers(1, 4), max_size=3),
)
dtypes = ["?", "i1", "u1", "<i2", ">i2", "<u4", "<i8", ">u8", "<f2", "<f4", ">f8"]


@given(shape=shapes, dtype=st.sampled_from(dtypes))
def test_it_is_the_same_as_numpy_makes_lists_of_it(shape: list[int], dtype: str) -> None:
    array = (np.arange(math.prod(shape)) % 2).astype(dtype).reshape(shape)
    found = read_packed(memoryview(packed(array)))
    assert found is not None
    assert to_lists(found) == array.tolist()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_a_model_of_lists_takes_an_array(dtype: str) -> None:
    rows = CONTRACT.decode(packed(np.array([[1, 2], [3, 4]], dtype=dtype)), "msgpack")
    assert rows == [[1.0, 2.0], [3.0, 4.0]]
    assert isinstance(rows[0:1][0][0], float)


@pytest.mark.parametrize(
    ("array", "where"),
    [
        (np.zeros((1, 3)), "$.input_data[0]"),
        (np.zeros(2), "$.input_data[0]"),
        (np.zeros((1, 2), dtype="?"), "$.input_data[0][0]"),
        (np.zeros((0, 2)), "$.input_data"),
        (np.zeros((1 << 40, 0)), "$.input_data"),
    ],
)
def test_one_of_another_shape_is_refused(array: Any, where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        CONTRACT.decode(packed(array), "msgpack")
    assert caught.value.where == where


@given(payload=st.binary(max_size=40), code=st.sampled_from([EXTENSION_CODE, 5]))
def test_any_extension_gives_lists_or_an_error_of_the_request(payload: bytes, code: int) -> None:
    raw = msgspec.msgpack.encode(msgspec.msgpack.Ext(code, payload))
    with pytest.raises(RequestError):
        CONTRACT.decode(raw, "msgpack")


@pytest.mark.parametrize("dtype", ["<f3", "float32", "O8", "", "<c8"])
def test_a_dtype_that_is_none_of_numbers_is_named(dtype: str) -> None:
    payload = msgspec.msgpack.encode((dtype, (1, 2))) + bytes(16)
    raw = msgspec.msgpack.encode(msgspec.msgpack.Ext(EXTENSION_CODE, payload))
    with pytest.raises(InvalidInput, match="dtype"):
        CONTRACT.decode(raw, "msgpack")
