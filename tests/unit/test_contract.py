"""Annotations that cannot be served: the error says what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pydantic
import pytest

from modelyard.core.arrays import Tensor
from modelyard.core.contract import contract_of
from modelyard.core.lists import ContractError
from tests.unit.contracts import model_class

A_LIST = "write list[…] of what one instance is, for example list[list[float]]"
AN_ARRAY = 'write Annotated[np.ndarray, Tensor("float32", (4,))], the shape of one instance'
A_TYPE = "write a type that msgspec can decode"
NO_LIST_OF_ARRAYS = (
    'write Annotated[np.ndarray, Tensor("float32", (4,))], the shape of one instance, in place of '
    "the list: axis 0 is the batch"
)
A_SIGNATURE = "write def predict(self, instances: list[list[float]]) -> list[int]"


class Flower(pydantic.BaseModel):
    petals: int


class Bouquet(msgspec.Struct):
    flowers: dict[str, list[Flower]]


class Plain:
    petals: int


WRONG = [
    (list[Annotated[np.ndarray, Tensor("float32", (4,))]], NO_LIST_OF_ARRAYS),
    (list[np.ndarray], NO_LIST_OF_ARRAYS),
    (list[Flower], "Flower is a pydantic model; write class Flower(msgspec.Struct)"),
    (list[Bouquet], "Flower is a pydantic model; write class Flower(msgspec.Struct)"),
    (list[Plain], "Plain is a class that JSON cannot be decoded into; write a type that msgspec"),
    (list[np.int64], "int64 is a type of numpy; write a type that msgspec can decode: int"),
    (list, A_LIST),
    (Any, A_LIST),
    (str, A_LIST),
    (None, A_LIST),
    (Sequence[int], A_LIST),
    (list[int] | None, A_LIST),
    (np.ndarray, AN_ARRAY),
    (npt.NDArray[np.float32], AN_ARRAY),
    (list[np.float32], A_TYPE),
    (list[list[int] | set[int]], A_TYPE),
    (Annotated[np.ndarray, Tensor("float33")], "write a numpy dtype, such as float32"),
    (Annotated[np.ndarray, Tensor("complex64")], "write a bool, int, uint or float dtype"),
    (Annotated[np.ndarray, Tensor("S5")], "write a bool, int, uint or float dtype"),
]


@pytest.mark.parametrize(("takes", "advice"), WRONG)
def test_a_wrong_argument_says_what_to_write(takes: Any, advice: str) -> None:
    with pytest.raises(ContractError) as caught:
        contract_of(model_class(takes))
    assert advice in str(caught.value)


@pytest.mark.parametrize(("gives", "advice"), WRONG)
def test_a_wrong_answer_says_what_to_write(gives: Any, advice: str) -> None:
    with pytest.raises(ContractError) as caught:
        contract_of(model_class(list[int], gives))
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("removed", "problem"),
    [
        ("instances", "Served.predict: its argument has no annotation"),
        ("return", "Served.predict: what it returns has no annotation"),
    ],
)
def test_a_missing_annotation_says_which(removed: str, problem: str) -> None:
    unannotated: Any = model_class(list[int])
    del unannotated.predict.__annotations__[removed]
    with pytest.raises(ContractError) as caught:
        contract_of(unannotated)
    assert str(caught.value).startswith(f"{problem}; {A_SIGNATURE}")


class TakesNothing:
    def predict(self) -> list[int]:
        return []


class TakesTwo:
    def predict(self, instances: list[int], _threshold: float) -> list[int]:
        return instances


@pytest.mark.parametrize(("wrong", "count"), [(TakesNothing, 0), (TakesTwo, 2)])
def test_predict_takes_exactly_the_instances(wrong: type, count: int) -> None:
    with pytest.raises(ContractError) as caught:
        contract_of(wrong)
    expected = f"{wrong.__name__}.predict takes {count} arguments; {A_SIGNATURE}"
    assert str(caught.value).startswith(expected)


class Yields:
    def predict(self, instances: list[int]) -> Iterator[list[int]]:
        yield instances


def test_predict_gives_its_predictions_when_it_is_called() -> None:
    with pytest.raises(ContractError) as caught:
        contract_of(Yields)
    said = str(caught.value)
    assert said.startswith("Yields.predict is a generator; write a function that returns the ")
    assert said.endswith("def stream(self, instance: str) -> Iterator[str]")


class TakesOthers:
    def predict(self, instances: list[int]) -> list[int]:
        return instances

    def stream(self, instance: str) -> Iterator[str]:
        yield instance


class GivesAList:
    def stream(self, instance: str) -> list[str]:
        return [instance]


class SaysNothing:
    def stream(self, instance):  # type: ignore[no-untyped-def]
        yield instance


class Steps:
    def admit(self, stream: int, instance: str) -> None: ...

    def step(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (TakesOthers, "TakesOthers.predict and TakesOthers.stream take different instances;"),
        (GivesAList, "GivesAList.stream: what it returns is annotated list[str]; write def stream"),
        (SaysNothing, "SaysNothing.stream: write def stream(self, instance: str) -> Iterator"),
        (Steps, "Steps.step: write def step(self) -> Iterable[tuple[int, str | None]]:"),
    ],
)
def test_a_stream_that_cannot_be_served_is_told_what_to_write(wrong: type, said: str) -> None:
    with pytest.raises(ContractError) as caught:
        contract_of(wrong)
    assert str(caught.value).startswith(said)


def test_a_name_that_is_not_defined_is_named() -> None:
    with pytest.raises(ContractError, match="'Flower' is not defined; import it where the class"):
        contract_of(model_class("list[Flower]"))
