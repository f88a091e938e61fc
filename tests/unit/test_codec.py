"""From JSON to instances, and from predictions to JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.arrays import Tensor
from modelyard.core.contract import Contract
from modelyard.core.errors import InvalidInput, Malformed, RequestError
from modelyard.core.lists import Instances, UnfitPredictions
from tests.unit.contracts import contract_for


class Flower(msgspec.Struct):
    """An instance with a name for each of its parts."""

    petal_cm: float
    colour: Literal["white", "violet"] = "white"
    notes: list[str] = []


Digit = Annotated[int, msgspec.Meta(ge=0, le=9)]
Pixels = Annotated[np.ndarray, Tensor("float32", (2,))]

TYPES = [
    list[int],
    list[float],
    list[str],
    list[bool | None],
    list[Any],
    list[Digit],
    list[Flower],
    list[list[list[float]]],
    list[dict[str, int]],
    Pixels,
]

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
flowers = st.builds(
    Flower,
    petal_cm=finite,
    colour=st.sampled_from(["white", "violet"]),
    notes=st.lists(st.text()),
)


@pytest.mark.parametrize(
    ("takes", "instances"),
    [
        (list[int], st.integers()),
        (list[float], finite),
        (list[str], st.text()),
        (list[Literal["a", 2]], st.sampled_from(["a", 2])),
        (list[Digit], st.integers(min_value=0, max_value=9)),
        (list[Flower], flowers),
        (list[list[float]], st.lists(finite)),
        (list[dict[str, float]], st.dictionaries(st.text(), finite)),
        (list[Any], json_values),
    ],
)
@given(data=st.data())
def test_instances_survive_the_way_through_json(
    takes: Any, instances: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    contract = contract_for(takes)
    sent = data.draw(st.lists(instances, min_size=1))
    raw = contract.encode_instances(sent)
    assert contract.decode(raw) == sent
    assert contract.decode(memoryview(raw)) == sent


def outcome_of(contract: Contract, raw: bytes) -> Instances | RequestError:
    try:
        return contract.decode(raw)
    except RequestError as error:
        return error


@pytest.mark.parametrize("takes", TYPES)
@given(raw=st.binary() | json_values.map(msgspec.json.encode))
def test_any_bytes_give_instances_or_an_error_of_the_request(takes: Any, raw: bytes) -> None:
    outcome = outcome_of(contract_for(takes), raw)
    if isinstance(outcome, RequestError):
        assert isinstance(outcome, Malformed | InvalidInput)
        assert (outcome.where or "").startswith("$.input_data")
    else:
        assert len(outcome) == len(json.loads(raw))


@pytest.mark.parametrize("takes", TYPES)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[1",
        b"[1,]",
        b"[1] x",
        b"\xef\xbb\xbf[1]",
        b"[" * 5000,
        b"[NaN]",
        b"[-Infinity]",
        b"[1e999]",
        b"[[-1e999]]",
        b"[" + b"9" * 5000 + b"]",
        b"[-" + b"9" * 5000 + b"]",
        b'["\\ud800"]',
        b'["\\udc00\\ud800"]',
        b'["\xff"]',
        b'["\xed\xa0\x80"]',
    ],
)
def test_what_no_type_could_hold_is_malformed(takes: Any, raw: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        contract_for(takes).decode(raw)
    assert caught.value.where == "$.input_data"


@pytest.mark.parametrize(
    ("takes", "raw", "where"),
    [
        (list[int], b"{}", "$.input_data"),
        (list[int], b"null", "$.input_data"),
        (list[int], b"[]", "$.input_data"),
        (list[int], b'[1, 2, "3"]', "$.input_data[2]"),
        (list[int], b"[1.5]", "$.input_data[0]"),
        (list[list[float]], b"[[1], [1, null]]", "$.input_data[1][1]"),
        (list[Literal[1, 2]], b"[1, 3]", "$.input_data[1]"),
        (list[Digit], b"[10]", "$.input_data[0]"),
        (list[Flower], b'[{"petal_cm": "x"}]', "$.input_data[0].petal_cm"),
        (list[Flower], b'[{"petal_cm": 1, "notes": ["", 2]}]', "$.input_data[0].notes[1]"),
        (list[Flower], b'[{"colour": "white"}]', "$.input_data[0]"),
        (list[dict[str, int]], b'[{}, {"a": "b"}]', "$.input_data[1][...]"),
    ],
)
def test_an_invalid_input_says_where(takes: Any, raw: bytes, where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        contract_for(takes).decode(raw)
    assert caught.value.where == where
    assert " - at " not in caught.value.detail


@given(st.integers())
def test_constraints_hold_to_the_number(number: int) -> None:
    contract = contract_for(list[Digit])
    raw = contract.encode_instances([number])
    if 0 <= number <= 9:
        assert contract.decode(raw) == [number]
    else:
        with pytest.raises(InvalidInput):
            contract.decode(raw)


@given(st.lists(st.lists(st.integers(), min_size=1), min_size=1))
def test_what_is_joined_can_be_split_again(parts: list[list[int]]) -> None:
    joined = contract_for(list[Any]).join(parts)
    split, start = [], 0
    for part in parts:
        split.append(joined[start : start + len(part)])
        start += len(part)
    assert split == parts
    assert start == len(joined)


@pytest.mark.parametrize(
    ("predictions", "text"),
    [
        (np.array([1, 2]), b"[1,2]"),
        (np.array([[0.5], [1.5]], dtype=np.float32), b"[[0.5],[1.5]]"),
        ([np.int64(1), np.float16(0.5), np.bool_(True)], b"[1,0.5,true]"),
        ([{"p": np.array([0.25])}], b'[{"p":[0.25]}]'),
        ([Flower(1.5)], b'[{"petal_cm":1.5,"colour":"white","notes":[]}]'),
    ],
)
def test_predictions_become_plain_json(predictions: Any, text: bytes) -> None:
    assert contract_for(list[int]).encode(predictions) == text


def test_what_has_no_form_in_json_is_said_so() -> None:
    with pytest.raises(UnfitPredictions, match="type complex is not supported"):
        contract_for(list[int]).encode([1j])


@given(st.lists(st.none(), max_size=9), st.integers(min_value=0, max_value=9))
def test_predictions_are_as_many_as_instances(predictions: list[None], count: int) -> None:
    problem = contract_for(list[int]).check_predictions(predictions, count=count)
    if len(predictions) == count:
        assert problem is None
    else:
        assert problem == f"returned {len(predictions)} predictions for {count} instances"


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("predictions", [None, 1, "a", b"a", {0: 1}, generator(), np.array(1)])
def test_predictions_are_a_list(predictions: Any) -> None:
    name = type(predictions).__name__
    problem = contract_for(list[int]).check_predictions(predictions, count=1)
    assert problem == f"returned {name} where a list is expected"


def test_the_schemas_are_json_schema_of_both_sides() -> None:
    contract = contract_for(list[list[Digit]], list[Literal["a", "b"]])
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    assert json.loads(contract.input_schema) == {
        "type": "array",
        "items": {"type": "array", "items": digit},
        "minItems": 1,
    }
    assert json.loads(contract.output_schema) == {"type": "array", "items": {"enum": ["a", "b"]}}
