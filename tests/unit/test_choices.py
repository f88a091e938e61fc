"""A value that an enum or a ``Literal`` does not have: the error names those that it has."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from modelyard.core.errors import InvalidInput
from modelyard.core.messages import Form
from tests.unit.contracts import contract_for
from tests.unit.tensors import question, tensor


class Side(enum.Enum):
    NORTH = "north"
    SOUTH = "south"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Roof(msgspec.Struct, array_like=True, tag="roof"):
    side: Side


class House(msgspec.Struct, tag="house"):
    side: Side
    others: list[House] = []
    by_name: dict[str, Side] = {}
    of_side: dict[Side, int] = {}
    label: Literal["old", "new", 3] | None = None
    size: Size = Size.SMALL
    pair: tuple[int, Side] = (0, Side.NORTH)
    renamed: Side = msgspec.field(name="re-named", default=Side.NORTH)
    roof: Roof | None = None


class Garden(msgspec.Struct, tag="garden"):
    trees: Literal["oak"]


class Address(TypedDict):
    side: Side


class Pair(NamedTuple):
    number: int
    side: Side


SIDES = 'expected one of "north", "south"'
HOUSE = {"type": "house", "side": "north"}


@pytest.mark.parametrize(
    ("takes", "instance", "problem", "place"),
    [
        (Side, "west", f"Invalid enum value 'west'; {SIDES}", ""),
        (Size, 9, "Invalid enum value 9; expected one of 1, 2", ""),
        (Literal["a"], "b", "Invalid enum value 'b'; expected one of \"a\"", ""),
        (House, HOUSE | {"side": "west"}, SIDES, ".side"),
        (House, HOUSE | {"label": "west"}, 'expected one of 3, "new", "old"', ".label"),
        (House, HOUSE | {"by_name": {"a": "west"}}, SIDES, ".by_name[...]"),
        (House, HOUSE | {"of_side": {"west": 1}}, f"a key of the object: {SIDES}", ".of_side"),
        (House, HOUSE | {"size": 3}, "expected one of 1, 2", ".size"),
        (House, HOUSE | {"pair": [1, "west"]}, SIDES, ".pair[1]"),
        (House, HOUSE | {"re-named": "west"}, SIDES, ".re-named"),
        (House, HOUSE | {"roof": ["roof", "west"]}, SIDES, ".roof[1]"),
        (House, HOUSE | {"others": [HOUSE, HOUSE | {"side": 4}]}, None, ".others[1].side"),
        (House, HOUSE | {"others": [HOUSE | {"side": "west"}]}, SIDES, ".others[0].side"),
        (House | Garden, {"type": "barn"}, 'expected one of "house", "garden"', ".type"),
        (House | Garden, {"type": "garden", "trees": "elm"}, 'one of "oak"', ".trees"),
        (Address, {"side": "west"}, SIDES, ".side"),
        (Pair, [1, "west"], SIDES, "[1]"),
        (set[Side], ["west"], SIDES, "[0]"),
    ],
)
@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_the_allowed_values_are_named_and_the_place_is_kept(
    takes: Any, instance: Any, problem: str | None, place: str, *, form: Form
) -> None:
    encode = (msgspec.json if form == "json" else msgspec.msgpack).encode
    with pytest.raises(InvalidInput) as caught:
        contract_for(list[takes]).decode(encode([instance]), form)
    assert caught.value.where == f"$.input_data[0]{place}"
    if problem is None:
        assert "expected one of" not in caught.value.detail
    else:
        for part in problem.split(": "):
            assert part in caught.value.detail


def test_of_many_values_some_are_named() -> None:
    many: Any = Literal[tuple(f"v{number:02}" for number in range(30))]
    with pytest.raises(InvalidInput) as caught:
        contract_for(list[many]).decode(b'["west"]')
    assert caught.value.detail.endswith('"v18", "v19" and 10 more')


@pytest.mark.parametrize(
    ("takes", "place"), [(Literal["a", "b"], "$.inputs[0].data[1]"), (Side, "$.input_data[1]")]
)
def test_they_are_named_for_tensors_too(takes: Any, place: str) -> None:
    data = ["a" if takes is not Side else '"north"', "west" if takes is not Side else '"west"']
    asked = question(tensor(data, "BYTES", [2]))
    with pytest.raises(InvalidInput, match=r"expected one of \"") as caught:
        contract_for(list[takes]).decode_tensors(asked)
    assert caught.value.where == place


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(InvalidInput) as caught:
        contract_for(list[House]).decode(json.dumps([HOUSE | {"side": 4}]).encode())
    assert caught.value.detail == "Expected `str`, got `int`"
