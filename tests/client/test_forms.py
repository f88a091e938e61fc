"""What instances are written in, and what is read of an answer."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.client import UnexpectedAnswer
from modelyard.client.arrays import EXTENSION_CODE, pack, unpack
from modelyard.client.exchange import Reply
from modelyard.client.forms import MEDIA_TYPES, Body, read_answer


class Flower(msgspec.Struct):
    petal_cm: float


@dataclasses.dataclass
class Trick:
    nonce: int
    act: str = "answer"


class Frame:
    """As a data frame or a tensor in main memory: it can say of itself what array it is."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self) -> Any:
        return self._array


def written(instances: Any, timeout_s: float | None = None) -> tuple[str, dict[str, Any]]:
    """Give the form, and the fields of the body as anybody would read them."""
    content = Body(instances, model="m", version=None, priority=None)
    media_type, body = content.write(timeout_s)
    if media_type == MEDIA_TYPES["json"]:
        return "json", msgspec.json.decode(body)
    assert media_type == MEDIA_TYPES["msgpack"]
    return "msgpack", msgspec.msgpack.decode(body)


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([[5.1, 3.5]], [[5.1, 3.5]]),
        (["text", None], ["text", None]),
        ([Flower(1.5)], [{"petal_cm": 1.5}]),
        ([Trick(7)], [{"nonce": 7, "act": "answer"}]),
        ([{"x": np.float32(0.5), "y": np.array([1, 2])}], [{"x": 0.5, "y": [1, 2]}]),
        ([np.int64(3), np.float64(0.5), np.True_], [3, 0.5, True]),
        (np.array(["a", "b"]), ["a", "b"]),
        ([np.array([1, 2]), np.array([3])], [[1, 2], [3]]),
    ],
)
def test_what_json_can_say_is_json(instances: Any, expected: Any) -> None:
    form, body = written(instances)
    assert (form, body) == ("json", {"model_name": "m", "input_data": expected})


IMAGES = np.arange(12, dtype="<f4").reshape(2, 3, 2)


@pytest.mark.parametrize(
    "instances",
    [
        IMAGES,
        IMAGES.astype(">f4"),
        np.asfortranarray(IMAGES),
        np.concatenate([IMAGES, IMAGES])[:2],
        list(IMAGES),
        tuple(IMAGES),
        Frame(IMAGES),
    ],
)
def test_an_array_is_its_bytes_with_dtype_and_shape(instances: Any) -> None:
    form, body = written(instances)
    assert (form, body["input_data"].code) == ("msgpack", EXTENSION_CODE)
    payload = body["input_data"].data
    head = msgspec.msgpack.encode(["<f4", [2, 3, 2]])
    assert payload == head + IMAGES.tobytes()


@pytest.mark.parametrize("instances", [[1.0, math.nan], [[math.inf]], [{"x": [-math.inf, None]}]])
def test_a_number_that_json_cannot_say_goes_as_messagepack(instances: Any) -> None:
    form, body = written(instances)
    assert form == "msgpack"
    assert repr(body["input_data"]) == repr(instances)


def test_bytes_are_not_written_in_base64() -> None:
    assert written([b"\x89PNG"]) == ("msgpack", {"model_name": "m", "input_data": [b"\x89PNG"]})


def test_each_try_has_its_own_timeout() -> None:
    content = Body([1], model="m", version="2", priority="high")
    bodies = [msgspec.json.decode(content.write(left_s)[1]) for left_s in (2.5, 1.25)]
    same = {"model_name": "m", "model_version": "2", "priority": "high", "input_data": [1]}
    assert bodies == [{**same, "timeout_s": 2.5}, {**same, "timeout_s": 1.25}]


@pytest.mark.parametrize(
    ("instances", "kind"), [([object()], TypeError), ([1 << 64, math.nan], OverflowError)]
)
def test_what_has_no_form_is_refused_before_anything_is_sent(
    instances: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        written(instances)


def answered(prediction: Any) -> Any:
    body = {"model_name": "m", "model_version": "1", "prediction": prediction, "new": 1}
    reply = Reply(200, MEDIA_TYPES["msgpack"], msgspec.msgpack.encode(body))
    return read_answer(reply).predictions


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 200]), min_size=1, max_size=4)
dtypes = st.sampled_from(["bool", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
floats = st.sampled_from(["<f2", "<f4", "<f8"])


@given(shape=shapes.filter(lambda shape: math.prod(shape) < 10_000), dtype=dtypes | floats)
def test_an_array_comes_back_as_it_was_sent(shape: list[int], dtype: str) -> None:
    array = (np.arange(math.prod(shape)) % 2).astype(dtype).reshape(shape)
    again = answered(pack(array))
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert np.array_equal(again, array)
    assert again.flags.writeable
    assert again.flags.aligned


def test_without_numpy_it_is_nested_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.client.arrays.find_spec", lambda name: None)
    assert answered(pack(IMAGES)) == IMAGES.tolist()
    assert answered(pack(np.array([True, False]))) == [True, False]
    assert answered(pack(np.array([0.5], dtype="<f2"))) == [0.5]
    for shape in ((0, 3), (3, 0), (2, 0, 2), (1, 1, 1, 1)):
        assert answered(pack(np.zeros(shape))) == np.zeros(shape).tolist()


WHOLE = bytes(pack(IMAGES).data)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x91",
        bytes(20),
        WHOLE[:3],
        WHOLE[:7],
        WHOLE[:-1],
        WHOLE + b"\0",
        WHOLE.replace(b"<f4", b"|O8"),
        WHOLE.replace(b"<f4", b"<f9"),
        WHOLE.replace(b"<f4", b"abc"),
    ],
)
def test_a_damaged_array_is_an_unexpected_answer(payload: bytes) -> None:
    with pytest.raises(UnexpectedAnswer, match="no gateway of Modelyard"):
        answered(msgspec.msgpack.Ext(EXTENSION_CODE, payload))


def test_another_extension_is_not_known() -> None:
    with pytest.raises(ValueError, match="extension type 5"):
        unpack(5, memoryview(b""))


@pytest.mark.parametrize("media_type", ["application/json", "application/msgpack", "text/html", ""])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"\x80", b'{"models":[]}', b"\xff"])
def test_an_answer_of_something_else_is_named_as_that(media_type: str, body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer, match="no gateway of Modelyard"):
        read_answer(Reply(200, media_type, body))
