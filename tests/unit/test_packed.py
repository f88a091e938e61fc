"""Arrays in MessagePack: with dtype and shape, or not at all."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from modelyard.arrays import EXTENSION_CODE, ext_hook, pack_array, payload_of
from modelyard.core.arrays import Tensor
from modelyard.core.contract import Contract
from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.packed import leading_length
from tests.unit.contracts import contract_for

DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st_np.arrays(dtype, st_np.array_shapes(max_dims=4, max_side=3))
)


def arrays_of(dtype: str, *shape: int) -> Contract:
    array = Annotated[np.ndarray, Tensor(dtype, shape)]
    return contract_for(array, array)


def encode(value: Any) -> bytes:
    return msgspec.msgpack.encode(value, enc_hook=pack_array)


def numpy_map(array: np.ndarray[Any, Any], *, has_bytes_keys: bool = True) -> dict[Any, Any]:
    """What msgpack-numpy makes of an array."""
    kind: Any = b"" if has_bytes_keys else ""
    said = {
        "nd": True,
        "type": array.dtype.str,
        "kind": kind,
        "shape": array.shape,
        "data": array.tobytes(),
    }
    return {key.encode() if has_bytes_keys else key: value for key, value in said.items()}


@given(arrays)
def test_an_array_keeps_dtype_and_shape(array: np.ndarray[Any, Any]) -> None:
    received = msgspec.msgpack.decode(encode(array), ext_hook=ext_hook)
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    assert received.tobytes() == array.tobytes()


@given(arrays, st.sampled_from(["ours", "map", "text map"]))
def test_a_model_gets_the_array_that_was_sent(array: np.ndarray[Any, Any], layout: str) -> None:
    raw = {
        "ours": lambda: encode(array),
        "map": lambda: encode(numpy_map(array)),
        "text map": lambda: encode(numpy_map(array, has_bytes_keys=False)),
    }[layout]()
    received: Any = arrays_of(str(array.dtype), *array.shape[1:]).decode(raw, "msgpack")
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    assert received.tobytes() == array.tobytes()
    assert leading_length(memoryview(raw)) == len(array)


def test_the_layout_is_what_is_documented() -> None:
    array = np.array([[1, 2]], dtype="<i2")
    head = msgspec.msgpack.encode(["<i2", [1, 2]])
    assert payload_of(array) == head + b"\1\0\2\0"
    ours = msgspec.msgpack.Ext(EXTENSION_CODE, head + b"\1\0\2\0")
    assert encode(array) == msgspec.msgpack.encode(ours)
    assert EXTENSION_CODE == 77


def test_an_array_in_another_order_is_put_in_ours() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    received: Any = arrays_of("float32", 2).decode(encode(array), "msgpack")
    assert np.array_equal(received, array)


def test_what_is_no_array_of_numbers_is_not_packed() -> None:
    assert encode([np.float32(0.5), np.bool_(True)]) == msgspec.msgpack.encode([0.5, True])
    for wrong in (object(), np.array(["a"]), np.array([None])):
        with pytest.raises(NotImplementedError):
            encode(wrong)


def test_predictions_are_written_as_what_is_declared() -> None:
    given_ = np.array([[1.5, 2.5]], dtype="float64")
    raw = arrays_of("float32", 2).encode(given_, "msgpack")
    received = msgspec.msgpack.decode(raw, ext_hook=ext_hook)
    assert (received.dtype, received.tolist()) == (np.dtype("float32"), [[1.5, 2.5]])


@pytest.mark.parametrize(
    ("sent", "taken"),
    [("float32", "float64"), ("int8", "int32"), ("uint8", "float32"), ("bool", "int64")],
)
def test_a_dtype_that_loses_nothing_is_widened(sent: str, taken: str) -> None:
    contract = arrays_of(taken)
    array = np.array([0, 1], dtype=sent)
    joined: Any = contract.join([contract.decode(encode(array), "msgpack")])
    assert (joined.dtype, joined.tolist()) == (np.dtype(taken), [0, 1])
    other = contract.decode(b"[1]")
    assert contract.join([contract.decode(encode(array), "msgpack"), other])[0:3].tolist() == [
        0,
        1,
        1,
    ]


FLOATS_OF_2 = "the model takes float32 of shape (n, 2)"


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (np.zeros((1, 2)), f"the array is float64, {FLOATS_OF_2}, which cannot represent every"),
        (np.zeros((1, 2), "int32"), f"the array is int32, {FLOATS_OF_2}, which cannot represent"),
        (np.zeros((1, 3), "f4"), f"the array has shape (1, 3), {FLOATS_OF_2}"),
        (np.zeros(2, "f4"), f"the array has shape (2,), {FLOATS_OF_2}; axis 0 is the batch: send"),
        (np.zeros((0, 2), "f4"), "there are no instances"),
        (np.zeros((1, 2), "f4").tobytes(), "these bytes have neither dtype nor shape: send"),
        (b"", "these bytes have neither dtype nor shape: send modelyard.arrays.pack_array(array)"),
        (
            {"a": 1},
            "not an array: a map that encodes an array has no key 'a'; the model takes float32",
        ),
        ({1: 1}, "not an array: expected a string"),
        ({}, "not an array: a map that encodes an array has nd, type, kind, shape and data"),
        ({"type": "<f4", "shape": "x"}, "not an array: the shape must be a list of lengths"),
        ({"type": "<f4", "shape": [-1]}, "not an array: unexpected kind of value in the head"),
        (numpy_map(np.array([["ab"]])), "not a bool, int, uint or float dtype: '<U2'"),
        (msgspec.msgpack.Ext(EXTENSION_CODE, b"\x92\xa3<f4\x92\1\2abcd"), "takes 8 bytes, not 4"),
        (msgspec.msgpack.Ext(EXTENSION_CODE, b"\x92\xa3<f9\x91\1"), "data type '<f9' not under"),
        (msgspec.msgpack.Ext(EXTENSION_CODE, b"\x92\xa3<f4"), "not an array: it is truncated"),
        (msgspec.msgpack.Ext(EXTENSION_CODE, b"\x91\1"), "it must begin with [dtype, [length, …]]"),
        (msgspec.msgpack.Ext(1, b"ab"), "Expected `array`, got `ext`"),
        ("text", "Expected `array`, got `str`"),
        ([[1.0]], "Expected `array` of length >= 2"),
    ],
)
def test_what_is_not_the_array_that_is_taken_is_invalid(sent: Any, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        arrays_of("float32", 2).decode(encode(sent), "msgpack")
    assert problem in caught.value.detail
    assert (caught.value.where or "").startswith("$.input_data")


def test_an_array_inside_of_a_list_is_refused_with_what_to_send() -> None:
    with pytest.raises(InvalidInput, match=r"send array\.tolist\(\)") as caught:
        contract_for(list[list[float]]).decode(encode([np.zeros(2)]), "msgpack")
    assert caught.value.where == "$.input_data[0]"


def test_a_bool_is_0_or_1() -> None:
    wrong = msgspec.msgpack.Ext(EXTENSION_CODE, payload_of(np.array([2], "u1")).replace(b"u", b"b"))
    with pytest.raises(InvalidInput, match="the bytes of a bool array must be 0 or 1"):
        arrays_of("bool").decode(encode(wrong), "msgpack")


@given(arrays, st.data())
def test_what_is_cut_off_is_malformed(array: np.ndarray[Any, Any], data: st.DataObject) -> None:
    raw = encode(data.draw(st.sampled_from([array, numpy_map(array)])))
    end = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
    contract = arrays_of(str(array.dtype), *array.shape[1:])
    for broken in (raw[:end], raw + b"\0"):
        with pytest.raises(Malformed):
            contract.decode(broken, "msgpack")


@given(st.binary() | arrays.map(encode).flatmap(lambda raw: st.permutations(raw).map(bytes)))
def test_any_bytes_give_an_array_or_an_error_of_the_request(raw: bytes) -> None:
    length = leading_length(memoryview(raw))
    assert length is None or length >= 0
    try:
        instances = arrays_of("float64").decode(raw, "msgpack")
    except (Malformed, InvalidInput):
        return
    assert len(instances) == length


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ([], 0),
        ([1] * 15, 15),
        ([1] * 16, 16),
        ([[1]] * 70_000, 70_000),
        ([b"a", b"b"], 2),
        (np.zeros((3, 2)), 3),
        (np.zeros((300, 2)), 300),
        (np.zeros((200_000,)), 200_000),
        (numpy_map(np.zeros((200_000, 2))), 200_000),
        ({"a": [1], "b": 2}, 1),
        ({"a": np.zeros((3, 2)), "b": 2}, 3),
        ({"a": {"b": [1]}}, None),
        ({"a": 1}, None),
        ({}, None),
        (b"bytes", None),
        ("text", None),
        (7, None),
        (msgspec.msgpack.Ext(5, b"abc"), None),
    ],
)
def test_the_number_of_instances_is_in_the_first_bytes(value: Any, length: int | None) -> None:
    assert leading_length(memoryview(encode(value))) == length
