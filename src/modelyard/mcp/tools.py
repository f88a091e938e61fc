"""Models as tools: their names, descriptions and JSON Schemas."""

from __future__ import annotations

from typing import Any

import msgspec
from mcp_types import Tool

from modelyard.core.messages import Schema
from modelyard.dispatch.entry import Entry

LONGEST_EXAMPLE_BYTES = 2048


def tool_of(entry: Entry) -> Tool | None:
    """Return a target as a tool; None before its model was loaded for the first time."""
    known = entry.announcement
    if known.schema is None:
        return None
    return Tool(
        name=entry.target.name,
        description=known.description or f"The model {entry.target.name}.",
        input_schema=_input_of(known.schema),
        output_schema=_output_of(known.schema),
    )


def _input_of(schema: Schema) -> dict[str, Any]:
    instances = msgspec.json.decode(schema.input)
    instances["description"] = "A list of instances; there is one prediction for each."
    if schema.example != b"null" and len(schema.example) <= LONGEST_EXAMPLE_BYTES:
        instances["examples"] = [msgspec.json.decode(schema.example)]
    return _object({"input_data": instances}, required=["input_data"])


def _output_of(schema: Schema) -> dict[str, Any]:
    text = {"type": "string"}
    predictions = msgspec.json.decode(schema.output)
    fields = {"model_name": text, "model_version": text, "prediction": predictions}
    return _object(fields, required=list(fields))


def _object(fields: dict[str, dict[str, Any]], *, required: list[str]) -> dict[str, Any]:
    """Return the schema of an object. References in its fields are to the root's definitions."""
    definitions = [field.pop("$defs", {}) for field in fields.values()]
    found = {name: one for of_field in definitions for name, one in of_field.items()}
    whole: dict[str, Any] = {"type": "object", "properties": fields, "required": required}
    return {**whole, "$defs": found} if found else whole
