"""What a person reads is short, whatever a model takes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest

from modelyard.gateway.shortening import shorten_example, shorten_schema


def exactly(length: int, item: Any) -> Any:
    return Annotated[list[item], msgspec.Meta(min_length=length, max_length=length)]


Number = Annotated[float, msgspec.Meta(ge=-3.4e38, le=3.4e38)]
Image = exactly(3, exactly(224, exactly(224, Number)))


class Picture(msgspec.Struct):
    pixels: Image  # type: ignore[valid-type]
    items: list[str]
    type: str


def shortened(annotation: Any) -> dict[str, Any]:
    schema = msgspec.json.schema(annotation)
    return shorten_schema(schema, whole="GET /models/x")


@pytest.mark.parametrize("value", [None, [1, 2], ["x" * 100], [{"a": [1] * 50}], [True] * 300])
def test_what_is_short_stays(value: Any) -> None:
    assert shorten_example(json.dumps(value).encode()) == (value, False)


def test_a_long_example_is_cut_and_says_how_much_is_missing() -> None:
    image = [[[[0.5] * 224] * 224] * 3]
    cut, is_cut = shorten_example(json.dumps(image).encode())
    assert is_cut
    row = [0.5, 0.5, 0.5, "… 221 more"]
    assert cut == [[[row, row, row, "… 221 more"]] * 3]
    assert shorten_example(json.dumps([{"text": "x" * 5000}]).encode())[0] == [
        {"text": "x" * 80 + "… 4920 more characters"}
    ]


@pytest.mark.parametrize("annotation", [list[exactly(4, float)], list[list[str]], list[int]])  # type: ignore[misc]
def test_a_short_schema_stays(annotation: Any) -> None:
    assert shortened(annotation) == msgspec.json.schema(annotation)


def test_a_large_array_asks_for_no_large_example() -> None:
    schema = shortened(list[Image])  # type: ignore[valid-type]
    assert "minItems" not in json.dumps(schema)
    inner = {"type": "array", "description": "224 items", "items": {"type": "number"}}
    assert schema["items"] == {
        "type": "array",
        "description": "3 items",
        "items": {"type": "array", "description": "224 items", "items": inner},
    }


def test_fields_called_like_keywords_are_fields() -> None:
    fields = shortened(list[Picture])["$defs"]["Picture"]["properties"]
    assert set(fields) == {"pixels", "items", "type"}
    assert fields["pixels"]["description"] == "3 items"
    assert fields["items"] == {"type": "array", "items": {"type": "string"}}


def test_bounds_that_somebody_chose_stay() -> None:
    chosen = shortened(list[Annotated[int, msgspec.Meta(ge=0, le=255)]])["items"]
    assert chosen == {"type": "integer", "minimum": 0, "maximum": 255}
    assert shortened(list[Number])["items"] == {"type": "number"}


def test_a_very_long_schema_says_where_it_is() -> None:
    wide = msgspec.defstruct("Wide", [(f"column_{i}", float) for i in range(1000)])
    schema = shortened(list[wide])  # type: ignore[valid-type]
    assert schema == {
        "type": "array",
        "description": "Too long to show here; see GET /models/x.",
    }
