"""Which JSON types a JSON Schema allows."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def resolve(schema: Schema, document: Schema) -> Schema:
    """Return what a schema refers to in its document, or itself."""
    while "$ref" in schema:
        schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def kinds_of(schema: Schema, document: Schema) -> frozenset[str]:
    """Return the JSON types that a schema allows; none where it says nothing."""
    schema = resolve(schema, document)
    if "anyOf" in schema:
        none: frozenset[str] = frozenset()
        return none.union(*(kinds_of(choice, document) for choice in schema["anyOf"]))
    if "enum" in schema:
        return frozenset("string" if isinstance(one, str) else "integer" for one in schema["enum"])
    kinds = schema.get("type", [])
    return frozenset((kinds,) if isinstance(kinds, str) else kinds)
