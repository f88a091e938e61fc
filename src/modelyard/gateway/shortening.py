"""Shortens examples and schemas for people. ``/models`` has them in full.

An image as nested lists is megabytes of JSON. And from a schema with "224 items of 224 items each"
the documentation page generates an example with all of them. Either blocks a browser for minutes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, cast

import msgspec

LONGEST_EXAMPLE = 2_000
"""Characters of JSON. A longer example is shortened."""
LONGEST_SCHEMA = 8_000
"""Characters of JSON. A longer schema is replaced by a description."""
MOST_CELLS = 64
"""Numbers in an array whose lengths are given one within the other."""
_MOST_ITEMS, _LONGEST_STRING = 3, 80
_LARGE_BOUND = 1e18  # less than the ends of int64, float32 and float64


@lru_cache(maxsize=256)  # the document is rebuilt whenever any model's state has changed
def shorten_example(raw: bytes) -> tuple[Any, bool]:
    """Return the JSON example in ``raw``, shortened if it is long, and whether it was."""
    value = msgspec.json.decode(raw)
    return (value, False) if len(raw) <= LONGEST_EXAMPLE else (_cut(value), True)


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        kept = [_cut(item) for item in value[:_MOST_ITEMS]]
        left = len(value) - len(kept)
        return [*kept, f"… {left} more"] if left else kept
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, str) and len(value) > _LONGEST_STRING:
        left = len(value) - _LONGEST_STRING
        return f"{value[:_LONGEST_STRING]}… {left} more characters"
    return value


def shorten_schema(schema: dict[str, Any], *, whole: str) -> dict[str, Any]:
    """Return a short JSON Schema, from which no long example is generated. ``whole``: where the
    exact one is.
    """
    shortened = cast("dict[str, Any]", _for_people(schema))
    if len(json.dumps(shortened)) <= LONGEST_SCHEMA:
        return shortened
    kept = {key: value for key, value in shortened.items() if key in ("type", "title")}
    return {**kept, "description": f"Too long to show here; see {whole}."}


def _for_people(schema: Any, *, is_large: bool = False) -> Any:
    """Replace the lengths of large arrays by a description, and leave out bounds of dtypes."""
    if isinstance(schema, list):
        return [_for_people(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") != "array" or "items" not in schema:
        return {
            key: _for_people(part)
            for key, part in schema.items()
            if not (key in ("minimum", "maximum") and _is_of_dtype(part))
        }
    is_large = is_large or _cells(schema) > MOST_CELLS
    rest = {key: _for_people(part) for key, part in schema.items() if key != "items"}
    if is_large and schema.get("minItems", 0) > 1:
        length = rest.pop("minItems")
        is_exact = rest.pop("maxItems", None) == length
        rest["description"] = f"{length} items" if is_exact else f"{length} items or more"
    return {**rest, "items": _for_people(schema["items"], is_large=is_large)}


def _is_of_dtype(bound: Any) -> bool:
    """Return whether a bound is just the range of a dtype, not one that the author chose."""
    return isinstance(bound, int | float) and abs(bound) >= _LARGE_BOUND


def _cells(schema: Any) -> int:
    """Count the values in the shortest array that matches, including nested arrays."""
    if not isinstance(schema, dict) or schema.get("type") != "array":
        return 1
    return max(1, int(schema.get("minItems", 0))) * _cells(schema.get("items"))
