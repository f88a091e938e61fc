"""What a request of tensors may be, and what comes of it."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta

from modelyard import Tensor
from modelyard.core.errors import InvalidInput, Malformed, RequestError
from modelyard.core.lists import UnfitPredictions
from modelyard.core.v2 import RAW_HEAD, pack
from tests.unit.contracts import contract_for
from tests.unit.tensors import Person, Row, ask, binary, question, tensor


def test_a_tensor_has_the_name_that_its_author_gave_it() -> None:
    image = Annotated[np.ndarray, Tensor("float32", (2,), name="image")]
    (found,) = json.loads(contract_for(image).tensors)["inputs"]
    assert found["name"] == "image"
    with pytest.raises(InvalidInput, match="no input 'picture'; it takes image"):
        ask(contract_for(image, image), question(tensor([1, 2], "FP32", [1, 2], name="picture")))


def test_any_name_means_the_only_input_and_output_where_the_author_gave_none() -> None:
    asked = question(tensor([1.5], "FP64", [1], name="x"), outputs=[{"name": "y"}])
    outputs, _ = ask(contract_for(list[float], list[float]), asked)
    assert outputs == [{"name": "y", "datatype": "FP64", "shape": [1], "data": [1.5]}]


PEOPLE = [
    tensor(["Ada", "Émile"], "BYTES", [2], name="name"),
    tensor([36, 61], "UINT8", [2], name="age"),
    tensor([[1, 2], [3, 4]], "FP32", [2, 2], name="sizes"),
    tensor(['["a"]', "[]"], "BYTES", [2], name="tags"),
]


def test_structs_go_there_and_back() -> None:
    outputs, _ = ask(contract_for(list[Person], list[Person]), question(*PEOPLE))
    assert [(found["name"], found["data"]) for found in outputs] == [
        ("name", ["Ada", "Émile"]),
        ("age", [36, 61]),
        ("sizes", [1, 2, 3, 4]),
        ("tags", ['["a"]', "[]"]),
    ]


def test_an_input_that_has_a_default_may_be_left_out() -> None:
    instances, _ = contract_for(list[Person]).decode_tensors(question(*PEOPLE[:3]))
    assert instances[1:] == [Person("Émile", 61, (3, 4))]
    with pytest.raises(InvalidInput, match="input 'sizes' is missing"):
        contract_for(list[Person]).decode_tensors(question(*PEOPLE[:2]))


def test_bytes_are_themselves_also_beside_documents_that_have_them_in_base64() -> None:
    class File(msgspec.Struct):
        content: bytes
        parts: list[bytes]

    asked = question(
        binary(6, "BYTES", [1], name="content"),
        tensor(['["/w=="]'], "BYTES", [1], name="parts"),
        tail=b"\x02\0\0\0\xff\xfe",
        outputs=[{"name": "content", "parameters": {"binary_data": True}}, {"name": "parts"}],
    )
    contract = contract_for(list[File], list[File])
    assert contract.decode_tensors(asked)[0][:] == [File(b"\xff\xfe", [b"\xff"])]
    outputs, tail = ask(contract, asked)
    assert tail == b"\x02\0\0\0\xff\xfe"
    assert outputs[1]["data"] == ['["/w=="]']


@pytest.mark.parametrize(
    ("annotation", "sent", "instances"),
    [
        (list[float], tensor([1, 2], "INT32", [2]), [1.0, 2.0]),
        (list[float], tensor([2**53], "INT64", [1]), [2.0**53]),
        (list[int], tensor([255], "UINT8", [1]), [255]),
        (list[int], tensor([True], "BOOL", [1]), [1]),
        (list[tuple[int, int]], tensor([1, 2, 3, 4], "INT8", [2, 2]), [(1, 2), (3, 4)]),
        (list[tuple[int, int]], tensor([[1, 2], [3, 4]], "INT64", [2, 2]), [(1, 2), (3, 4)]),
        (list[tuple[int, int]], tensor([1, 2, 3, 4], "INT64", [2, 2]), [(1, 2), (3, 4)]),
    ],
)
def test_what_is_narrower_widens(annotation: Any, sent: Any, instances: list[Any]) -> None:
    found, _ = contract_for(annotation).decode_tensors(question(sent))
    assert found[:] == instances
    assert [type(one) for one in found[:]] == [type(one) for one in instances]


@pytest.mark.parametrize(
    ("sent", "dtype"),
    [("INT32", "float64"), ("FP16", "float32"), ("UINT8", "int16"), ("BOOL", "int8")],
)
def test_what_is_narrower_widens_into_an_array(sent: str, dtype: str) -> None:
    contract = contract_for(Annotated[np.ndarray, Tensor(dtype)])
    data = np.array([1, 0], {"INT32": "<i4", "FP16": "<f2", "UINT8": "u1", "BOOL": "?"}[sent])
    found, _ = contract.decode_tensors(
        question(binary(data.nbytes, sent, [2]), tail=data.tobytes())
    )
    array: Any = found
    assert array.dtype == dtype
    assert array.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("annotation", "sent", "problem"),
    [
        (list[int], tensor([1.0], "FP32", [1]), "the input is FP32, the model takes INT64"),
        (list[int], tensor([1], "UINT64", [1]), "the input is UINT64, the model takes INT64"),
        (list[str], tensor([1], "INT8", [1]), "the input is INT8, the model takes BYTES"),
        (list[float], tensor(["1"], "BYTES", [1]), "the input is BYTES, the model takes FP64"),
        (
            list[float],
            tensor([2**53 + 1], "INT64", [1]),
            "9007199254740993 of INT64 is not in FP64",
        ),
        (
            Annotated[np.ndarray, Tensor("float64")],
            tensor([-(2**53) - 1], "INT64", [1]),
            "-9007199254740993 of INT64 is not in FP64",
        ),
        (
            Annotated[np.ndarray, Tensor("float32")],
            tensor([1.0], "FP64", [1]),
            "the input is FP64, the model takes FP32, which does not hold every FP64",
        ),
    ],
)
def test_what_would_lose_something_is_refused_naming_both(
    annotation: Any, sent: Any, problem: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        contract_for(annotation).decode_tensors(question(sent))
    assert problem in caught.value.detail
    assert (caught.value.where or "").startswith("$.inputs[0]")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (question(), "input 'input' is missing"),
        (question(tensor([], "FP64", [0])), "there are no instances"),
        (question(tensor([1], "FP65", [1])), "'FP65' is no datatype"),
        (question(tensor([1], "BF16", [1])), "'BF16' is no datatype"),
        (question(tensor([1], "FP16", [1])), "FP16 has no form in JSON"),
        (question(tensor([1, 2], "FP64", [1, 2])), "shape [1, 2], the model takes [-1]"),
        (question(tensor([1], "FP64", [])), "shape [], the model takes [-1]"),
        (question(tensor([1, 2], "FP64", [1])), "says 1 elements, there are 2"),
        (question(tensor([[1, 2]], "FP64", [2])), "Expected `float`, got `array`"),
        (question(tensor(["a"], "FP64", [1])), "got `str`; the datatype is FP64"),
        (question(tensor([256], "UINT8", [1])), "<= 255"),
        (question(tensor([1 << 64], "UINT64", [1])), "<= 18446744073709551615"),
        (question(tensor([1e39], "FP32", [1])), "the datatype is FP32"),
        (question(tensor([1], "FP64", [-1])), "Expected `int` >= 0"),
        (question(tensor([1], "FP64", [1 << 50])), "Expected `int` <"),
        (question(binary(9, "FP64", [1]), tail=bytes(8)), "is 9, and 8 bytes are left"),
        (question(binary(8, "FP64", [1]), tail=bytes(9)), "1 bytes follow the last tensor"),
        (question(binary(8, "FP64", [2]), tail=bytes(8)), "is 16 bytes, there are 8"),
        (question(binary(-1, "FP64", [1])), "is a number of bytes"),
        (question(binary(1, "BOOL", [1]), tail=b"\2"), "the bytes of a BOOL are 0 or 1"),
        (question({"name": "a", "shape": [1], "datatype": "FP64"}), "neither data nor binary"),
        (
            question({**tensor([1], "FP64", [1]), "parameters": {"binary_data_size": 8}}),
            "exclude each other",
        ),
        (
            question({**binary(8, "FP64", [1]), "parameters": {"shared_memory_region": "x"}}),
            "shared memory",
        ),
        (question(tensor([1], "FP64", [1]), outputs=[{"name": "o"}] * 2), "asked for twice"),
        (
            question(
                tensor([1], "FP64", [1]), outputs=[{"name": "o", "parameters": {"binary_data": 1}}]
            ),
            "binary_data is true or false",
        ),
        (
            question(
                tensor([1], "FP64", [1]),
                outputs=[{"name": "o", "parameters": {"classification": 3}}],
            ),
            "classification is not offered",
        ),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        contract_for(list[float], list[float]).decode_tensors(raw)
    assert problem in caught.value.detail


@pytest.mark.parametrize(
    ("annotation", "raw", "error"),
    [
        (list[str], question(binary(6, "BYTES", [1]), tail=b"\2\0\0\0\xff\xfe"), InvalidInput),
        (list[str], question(binary(3, "BYTES", [1]), tail=b"\2\0\0"), InvalidInput),
        (list[str], question(binary(5, "BYTES", [1]), tail=b"\2\0\0\0a"), InvalidInput),
        (list[str], question(binary(8, "BYTES", [1]), tail=bytes(8)), InvalidInput),
        (list[Any], question(tensor(["[1"], "BYTES", [1])), Malformed),
        (list[list[float]], question(tensor(['["a"]'], "BYTES", [1])), InvalidInput),
        (list[Literal[0, 1]], question(tensor([2], "INT64", [1])), InvalidInput),
        (list[Literal[0, 1]], question(tensor([2], "INT8", [1])), InvalidInput),
        (list[Annotated[float, Meta(ge=0)]], question(tensor([-1], "FP32", [1])), InvalidInput),
        (
            list[Annotated[str, Meta(max_length=1)]],
            question(tensor(["ab"], "BYTES", [1])),
            InvalidInput,
        ),
        (list[Any], question(tensor(["[" * 100_000], "BYTES", [1])), Malformed),
        (list[Row], question(tensor([[1, 2, 3], [4]], "FP64", [1, 4])), InvalidInput),
        (list[Row], question(tensor([[1, 2, 3, 4]], "FP64", [2, 4])), InvalidInput),
        (list[Row], question(tensor([[1, 2, 3, 4]], "FP32", [2, 4])), InvalidInput),
        (list[Person], question(*PEOPLE[:3], tensor([], "BYTES", [0], name="tags")), InvalidInput),
        (list[Person], question(*PEOPLE[:3], PEOPLE[0]), InvalidInput),
    ],
)
def test_what_is_wrong_with_one_kind_of_model(
    annotation: Any, raw: bytes, error: type[RequestError]
) -> None:
    with pytest.raises(error):
        contract_for(annotation).decode_tensors(raw)


def test_a_constraint_names_the_instance() -> None:
    people = [PEOPLE[0], tensor([36, -1], "INT8", [2], name="age"), PEOPLE[2]]
    with pytest.raises(InvalidInput) as caught:
        contract_for(list[Person]).decode_tensors(question(*people))
    assert caught.value.where == "$.input_data[1].age"


@pytest.mark.parametrize(
    ("annotation", "body", "instances"),
    [
        (list[float], np.array([2.5]).tobytes(), [2.5]),
        (list[tuple[int, int]], np.array([1, 2]).tobytes(), [(1, 2)]),
        (list[str], "né".encode(), ["né"]),
        (list[bytes], b"\xff\xd8", [b"\xff\xd8"]),
    ],
)
def test_a_raw_request_is_one_instance(annotation: Any, body: bytes, instances: list[Any]) -> None:
    found, wanted = contract_for(annotation).decode_tensors(pack(RAW_HEAD, body))
    assert found[:] == instances
    assert [output.is_binary for output in wanted] == [True]


def test_a_raw_request_is_for_models_with_one_input() -> None:
    with pytest.raises(InvalidInput, match="takes name, age, sizes, tags"):
        contract_for(list[Person]).decode_tensors(pack(RAW_HEAD))


def test_nan_goes_in_binary_and_has_no_form_in_json() -> None:
    contract = contract_for(list[float], list[float])
    nan = np.array([math.nan]).tobytes()
    outputs, tail = ask(contract, question(binary(8, "FP64", [1]), tail=nan, binary=True))
    assert outputs[0]["parameters"] == {"binary_data_size": 8}
    assert tail == nan
    for gives in (list[float], list[tuple[float]], Annotated[np.ndarray, Tensor("float64")]):
        contract = contract_for(list[float], gives)
        _, wanted = contract.decode_tensors(question(tensor([1], "FP64", [1])))
        nans: Any = np.array([math.nan]) if gives != list[tuple[float]] else [(math.nan,)]
        with pytest.raises(UnfitPredictions, match="NaN"):
            contract.encode_tensors(nans, wanted)


def test_bytes_that_are_no_text_go_in_binary_alone() -> None:
    contract = contract_for(list[bytes], list[bytes])
    with pytest.raises(UnfitPredictions, match="ask for binary_data"):
        ask(contract, question(binary(5, "BYTES", [1]), tail=b"\1\0\0\0\xff"))


def test_fp16_is_given_in_binary_alone() -> None:
    contract = contract_for(list[float], Annotated[np.ndarray, Tensor("float16")])
    with pytest.raises(InvalidInput, match="output 'output' is FP16"):
        contract.decode_tensors(question(tensor([1], "FP64", [1])))


def test_predictions_are_compared_with_their_annotation() -> None:
    contract = contract_for(list[float], list[Annotated[int, Meta(ge=0)]])
    _, wanted = contract.decode_tensors(question(tensor([1], "FP64", [1])))
    for wrong in ([-1], ["a"], [None], [2**64]):
        with pytest.raises(UnfitPredictions):
            contract.encode_tensors(wrong, wanted)
    assert b'"data":[7]' in contract.encode_tensors([np.int64(7)], wanted)


CELLS = st.one_of(
    st.integers(-(1 << 65), 1 << 65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


@pytest.mark.parametrize("annotation", [list[float], list[int], list[bool], list[Row]])
@given(
    data=st.lists(CELLS, max_size=9),
    shape=st.lists(st.integers(0, 4), max_size=3),
    datatype=st.sampled_from(["FP64", "INT64", "BOOL", "FP32", "x"]),
)
@example(data=[1.5, 2, 3, 4], shape=[1, 4], datatype="FP64")
@example(data=[1, 2, 3], shape=[3], datatype="INT64")
@example(data=[True, False], shape=[2], datatype="BOOL")
def test_the_usual_request_is_read_as_all_others_are(
    annotation: Any, data: list[Any], shape: list[int], datatype: str
) -> None:
    contract = contract_for(annotation)
    sent = json.dumps([tensor(data, datatype, shape)])

    def read(end: str) -> Any:
        try:
            return contract.decode_tensors(pack(f"[{sent},{end}]".encode()))
        except RequestError as error:
            return type(error), error.detail, error.where

    first = read("null,false")  # the first of a model is always read this way
    assert read("null") == first
