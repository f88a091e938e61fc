"""Tensors on their way: whatever is sent comes back, and whatever is damaged is refused."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard import Tensor
from modelyard.core.contract import Contract
from modelyard.core.datatypes import BYTES, DATATYPES, FP16
from modelyard.core.errors import RequestError
from modelyard.core.instances import MANY, count_instances
from modelyard.core.v2 import pack, pack_in_place, question_head, read_question, unpack
from tests.unit.contracts import contract_for
from tests.unit.tensors import ask, binary, question, tensor

NUMERIC = [found for found in DATATYPES.values() if found is not BYTES]
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5)


def identity(dtype: str, row: tuple[int, ...]) -> Contract:
    array: Any = np.ndarray

    annotation = Annotated[array, Tensor(dtype, row)]
    return contract_for(annotation, annotation)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, Any]:
    datatype = draw(st.sampled_from(NUMERIC))
    shape = draw(hnp.array_shapes(max_dims=4, max_side=4))
    return datatype.name, draw(hnp.arrays(datatype.numpy, shape))


finite = arrays().filter(lambda found: bool(np.isfinite(found[1]).all()))


@given(arrays())
def test_an_array_that_is_sent_in_binary_comes_back_bit_for_bit(sent: tuple[str, Any]) -> None:
    datatype, array = sent
    shape, size = list(array.shape), array.nbytes
    contract = identity(array.dtype.str, array.shape[1:])
    asked = question(binary(size, datatype, shape), tail=array.tobytes(), binary=True)
    outputs, tail = ask(contract, asked)
    assert outputs == [{**binary(size, datatype, shape), "name": "output"}]
    assert tail == array.tobytes()
    assert count_instances(memoryview(asked), "v2") == len(array)


@given(finite, st.booleans())
def test_an_array_that_is_sent_in_json_comes_back(sent: tuple[str, Any], is_flat: bool) -> None:
    datatype, array = sent
    if datatype == FP16.name:
        return
    data = (array.reshape(-1) if is_flat else array).tolist()
    contract = identity(array.dtype.str, array.shape[1:])
    ((output,), tail) = ask(contract, question(tensor(data, datatype, list(array.shape))))
    assert tail == b""
    assert np.array_equal(
        np.array(output["data"], dtype=array.dtype).reshape(output["shape"]), array
    )


@given(texts)
def test_text_comes_back_whether_in_json_or_in_binary(sent: list[str]) -> None:
    contract = contract_for(list[str], list[str])
    asked = question(tensor(sent, "BYTES", [len(sent)]), binary=True)
    ((output,), tail) = ask(contract, asked)
    size = output["parameters"]["binary_data_size"]
    assert size == len(tail)
    again = question(binary(size, "BYTES", [len(sent)]), tail=tail)
    assert ask(contract, again)[0][0]["data"] == sent


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_lists_and_arrays_are_written_alike(sent: list[int]) -> None:
    asked = question(tensor(sent, "INT64", [len(sent)]), binary=True)
    assert ask(contract_for(list[int], list[int]), asked) == ask(identity("int64", ()), asked)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
odd_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("input") | junk,
        "datatype": st.sampled_from([*DATATYPES, "BF16"]) | junk,
        "shape": st.lists(st.integers(-1, 3)) | junk,
        "data": st.lists(st.integers(0, 3) | st.text(max_size=1)) | junk,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers()})
        | junk,
    },
)
odd_heads = st.tuples(
    st.lists(odd_tensors) | junk,
    st.none() | st.lists(odd_tensors) | junk,
    st.booleans() | junk,
    st.booleans(),
)
odd_questions = st.builds(
    lambda head, tail: pack(json.dumps(head).encode(), tail), odd_heads | junk, st.binary()
)


@pytest.mark.parametrize("annotation", [list[float], list[str], list[Any], list[tuple[int, int]]])
@given(raw=st.binary() | odd_questions)
def test_any_bytes_give_instances_or_an_error_of_the_request(annotation: Any, raw: bytes) -> None:
    count = count_instances(memoryview(raw), "v2")
    assert count >= 1
    try:
        instances, wanted = contract_for(annotation, annotation).decode_tensors(raw)
    except RequestError:
        return
    assert len(instances) == count
    assert len(wanted) == 1


@given(st.binary(), st.binary())
def test_a_head_and_what_follows_it_come_apart_again(head: bytes, tail: bytes) -> None:
    assert [bytes(part) for part in unpack(pack(head, tail))] == [head, tail]


@given(st.binary(), st.binary(), st.binary(), st.booleans())
def test_a_head_stands_before_what_followed_the_json(
    json_part: bytes, head: bytes, tail: bytes, is_large: bool
) -> None:
    body = json_part + tail
    packed = pack_in_place(bytearray(body) if is_large else body, len(json_part), head)
    assert [bytes(part) for part in unpack(bytes(packed))] == [head, tail]


def test_of_a_large_body_nothing_is_copied() -> None:
    body = bytearray(b'{"inputs":[]}' + bytes(100))
    head = question_head(msgspec.Raw(b"[]"), msgspec.Raw(b"null"), is_binary=False)
    packed = pack_in_place(body, len(body) - 100, head)
    assert isinstance(packed, memoryview)
    assert packed.obj is body


def test_a_long_head_counts_as_many_instances_and_long_tensors_cost_nothing() -> None:
    data = np.zeros((100_000,)).tobytes()
    asked = question(binary(len(data), "FP64", [100_000]), tail=data)
    assert count_instances(memoryview(asked), "v2") == 100_000
    asked = question(tensor([0.0] * 100_000, "FP64", [100_000]))
    assert count_instances(memoryview(asked), "v2") == MANY


def test_binary_tensors_are_not_copied() -> None:
    asked = question(binary(8, "FP64", [1]), tail=bytes(8))
    _, (found,) = read_question(asked)
    assert isinstance(found.data, memoryview)
    assert found.data.obj is asked
