"""The OpenAPI document: FastAPI's, and ``POST /predict`` with every model's own schemas.

Made anew when the catalog has changed, so that ``/docs`` shows the models that are there.
"""

from __future__ import annotations

import json
from typing import Any

from modelyard.core.errors import BY_CODE, GivenUp, RequestError
from modelyard.dispatch.catalog import Catalog, Entry
from modelyard.gateway.problems import MEDIA_TYPE, STATUS

_DESCRIPTION = """\
One prediction per instance of `input_data`, in the same order.

The same in MessagePack, question and answer, with `Content-Type: application/msgpack`. An array
may then be extension type 77: `[dtype, [length, …]]` in MessagePack, for example `["<f4", [2, 3]]`,
and at once after it the array's bytes in C order. So is an array that is predicted. In Python
`modelyard.arrays` writes and reads it.
"""
_UNSEEN = (RequestError.code, GivenUp.code)  # the one is a defect, of the other nobody hears
_PROBLEM = "#/components/schemas/Problem"


def add_predict(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Give ``document`` with the operation ``POST /predict`` for the models in ``catalog``."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    requests, answers, examples = [], [], {}
    for entry in catalog.entries():
        known = entry.announcement
        if known.schema is None:
            continue
        prefix = f"{entry.target.name}.{entry.target.version}"
        given = _hoist(json.loads(known.schema.input), f"{prefix}.input", schemas)
        gives = _hoist(json.loads(known.schema.output), f"{prefix}.output", schemas)
        schemas[f"{prefix}.request"] = _request_schema(entry, given)
        schemas[f"{prefix}.answer"] = _answer_schema(entry, gives)
        requests.append({"$ref": f"#/components/schemas/{prefix}.request"})
        answers.append({"$ref": f"#/components/schemas/{prefix}.answer"})
        if (example := json.loads(known.schema.example)) is not None:
            value = {"model_name": entry.target.name, "input_data": example}
            examples[prefix] = {"summary": known.description or prefix, "value": value}
    operation = {
        "tags": ["predictions"],
        "summary": "Predict",
        "description": _DESCRIPTION,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _any_of(requests), "examples": examples},
                "application/msgpack": {"schema": _any_of(requests)},
            },
        },
        "parameters": [_header("X-Request-Id", "Comes back with the answer, and is in the logs.")],
        "responses": {
            "200": {
                "description": "The predictions",
                "headers": {
                    "X-Request-Id": {"schema": {"type": "string"}},
                    "X-Cache": {
                        "schema": {"enum": ["hit", "miss", "coalesced", "bypass"]},
                        "description": "`Cache-Control: no-cache` in a request bypasses.",
                    },
                },
                "content": {
                    "application/json": {"schema": _any_of(answers)},
                    "application/msgpack": {"schema": _any_of(answers)},
                },
            },
            **_problem_responses(),
        },
    }
    document["paths"] = {"/predict": {"post": operation}, **document.get("paths", {})}
    return document


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return {"anyOf": schemas} if schemas else {}  # an empty choice is no valid schema


def _hoist(schema: dict[str, Any], prefix: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Move the definitions inside ``schema`` to the document's, under names of their own."""
    text = json.dumps(schema).replace('"#/$defs/', f'"#/components/schemas/{prefix}.')
    schema = json.loads(text)
    for name, definition in schema.pop("$defs", {}).items():
        schemas[f"{prefix}.{name}"] = definition
    return schema


def _request_schema(entry: Entry, input_schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": f"{entry.target} request",
        "description": entry.announcement.description,
        "type": "object",
        "required": ["model_name", "input_data"],
        "additionalProperties": False,
        "properties": {
            "model_name": {"const": entry.target.name},
            "input_data": input_schema,
            "model_version": {"const": entry.target.version},
            "timeout_s": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": f"seconds; {entry.announcement.limits.timeout_s:g} unless given",
            },
            "priority": {"enum": ["high", "normal"]},
        },
    }


def _answer_schema(entry: Entry, output_schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": f"{entry.target} answer",
        "type": "object",
        "required": ["model_name", "model_version", "prediction"],
        "properties": {
            "model_name": {"const": entry.target.name},
            "model_version": {"const": entry.target.version},
            "prediction": output_schema,
        },
    }


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "title": "Problem (RFC 9457)",
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "code": {"enum": sorted(STATUS)},
            "detail": text,
            "request_id": text,
            "where": {"type": "string", "description": "JSON path into the request"},
        },
    }


def _problem_responses() -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for code in BY_CODE:
        if code not in _UNSEEN:
            codes.setdefault(STATUS[code].value, []).append(code)
    return {
        str(status): {
            "description": " or ".join(f"`{code}`" for code in found),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _PROBLEM}}},
        }
        for status, found in sorted(codes.items())
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
