"""The OpenAPI document: FastAPI's, and ``POST /predict`` with every model's own schemas.

Built again when the catalog has changed, so that ``/docs`` shows the models that are up. It is for
people: long parts are shortened (``shortening.py``), and ``/models`` has them in full.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from modelyard.core.errors import (
    BY_CODE,
    Cancelled,
    Conflict,
    Forbidden,
    GivenUp,
    InvalidInput,
    JobNotFound,
    RequestError,
    Unauthenticated,
)
from modelyard.core.messages import Schema
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway.openapi_addresses import add_addresses
from modelyard.gateway.problems import MEDIA_TYPE, STATUS, problem_of
from modelyard.gateway.rules import rule_of
from modelyard.gateway.shortening import shorten_example, shorten_schema

_DESCRIPTION = """\
One prediction per instance of `input_data`, in the same order.

With `Content-Type: application/msgpack` request and response are MessagePack with the same fields.
An array may then be extension type 77: `[dtype, [length, …]]` in MessagePack, for example
`["<f4", [2, 3]]`, followed immediately by the array's bytes in C order. Predicted arrays are
encoded in the same way. Several arrays are a map of them, by name. In Python `modelyard.arrays`
writes and reads it.
"""
# The first is a bug; no client receives the second; the third is the registry's.
_UNSEEN = (RequestError.code, GivenUp.code, Cancelled.code, Conflict.code, JobNotFound.code)
# Inline, because the page resolves every reference before it shows anything.
_IN_MSGPACK = {"type": "object", "description": "The same fields as in JSON."}
_PROBLEM = "#/components/schemas/Problem"
_IS_V1_OR_V2 = re.compile(r"/v[12](/|$)").match
_WHERE = {"invalid_input": "$.input_data[0]", "malformed": "$.input_data"}


def add_predict(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return ``document`` with the operation ``POST /predict`` for the models in ``catalog``, and
    the same at each one's own address.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    requests, answers, examples = [], [], {}
    for entry in catalog.entries():
        known = entry.announcement.schema
        if known is None:
            continue
        prefix = f"{entry.target.name}.{entry.target.version}"
        whole = f"GET /models/{entry.target.name}"
        given = shorten_schema(json.loads(known.input), whole=whole)
        gives = shorten_schema(json.loads(known.output), whole=whole)
        schemas[f"{prefix}.request"] = _request_schema(
            entry, _hoist(given, f"{prefix}.input", schemas)
        )
        schemas[f"{prefix}.answer"] = _answer_schema(
            entry, _hoist(gives, f"{prefix}.output", schemas)
        )
        reference = f"#/components/schemas/{prefix}.request"
        requests.append({"$ref": reference, "required": ["model_name"]})
        answers.append({"$ref": f"#/components/schemas/{prefix}.answer"})
        if (example := _example(entry, known)) is not None:
            examples[prefix] = example
    # The page shows the first example, so that should be one that can be sent unchanged.
    examples = dict(sorted(examples.items(), key=lambda item: item[1]["x-is-cut"]))
    operation = {
        "tags": ["predictions"],
        "summary": "Predict",
        "description": _DESCRIPTION,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _any_of(requests), "examples": examples},
                "application/msgpack": {"schema": _IN_MSGPACK},
            },
        },
        "parameters": [_header("X-Request-Id", "Returned with the answer, and logged.")],
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
                    "application/msgpack": {"schema": _IN_MSGPACK},
                },
            },
            **problem_responses(*(code for code in BY_CODE if code not in _UNSEEN)),
        },
    }
    document["paths"] = {"/predict": {"post": operation}, **document.get("paths", {})}
    add_addresses(document, catalog)
    return document


def without_validation(document: dict[str, Any]) -> dict[str, Any]:
    """Put ours in place of the 422 that FastAPI documents for every path with a parameter; remove
    it where parameters take any text. Titles that only repeat a name go as well.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            responses, parameters = operation["responses"], operation.get("parameters", ())
            for parameter in parameters:
                parameter["schema"].pop("title", None)
            if "HTTPValidationError" not in json.dumps(responses.get("422")):
                continue
            del responses["422"]
            if "default" not in responses and not all(map(_takes_any_text, parameters)):
                responses.update(problem_responses(InvalidInput.code))
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for schema in schemas.values():
        for part in schema.get("properties", {}).values():
            part.pop("title", None)
    return document


def _takes_any_text(parameter: dict[str, Any]) -> bool:
    schema = parameter["schema"]
    kinds = schema.get("anyOf", [{"type": schema.get("type")}])
    is_bound = any(key not in ("type", "default", "anyOf") for key in schema)
    return not is_bound and all(kind in ({"type": "string"}, {"type": "null"}) for kind in kinds)


def add_bodies(document: dict[str, Any], *bodies: type[msgspec.Struct]) -> None:
    """Add the schemas of what is asked and answered, to which the operations refer by name.

    Raises:
        ValueError: Another type has the name of one.
    """
    template = "#/components/schemas/{name}"
    _, found = msgspec.json.schema_components(bodies, ref_template=template)
    schemas = document["components"]["schemas"]
    if clash := [name for name in found if schemas.get(name, found[name]) != found[name]]:
        raise ValueError(f"two schemas are called {clash[0]}")
    schemas.update(found)


def _example(entry: Entry, known: Schema) -> dict[str, Any] | None:
    """Return the model's example, named by the model."""
    example, is_cut = shorten_example(known.example)
    if example is None:
        return None
    summary = str(entry.target)
    if is_cut:
        summary += f", shortened; in full: GET /models/{entry.target.name}/example"
    elif entry.announcement.description:
        summary += f": {entry.announcement.description}"
    value = {"model_name": entry.target.name, "input_data": example}
    return {"summary": summary, "value": value, "x-is-cut": is_cut}


def add_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the ways to send a key, and what is said to who has none."""
    refused = problem_responses(Unauthenticated.code, Forbidden.code)
    in_v2 = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rule, responses = rule_of(method.upper(), path), operation["responses"]
            if rule is not None and rule.need == "nothing":
                operation["security"] = []
            elif "default" not in responses:
                for status, response in refused.items():
                    said = {**response, "content": in_v2} if _IS_V1_OR_V2(path) else response
                    responses.setdefault(status, said)
    document["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return document | {"security": [{"key": []}, {"bearer": []}]}


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
        "required": ["input_data"],  # and the name, where the address does not tell it
        "additionalProperties": False,
        "properties": {
            "model_name": {"const": entry.target.name},
            "input_data": input_schema,
            "model_version": {"enum": [entry.target.version, None]},
            "timeout_s": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": f"seconds; {entry.announcement.limits.timeout_s:g} unless given",
            },
            "priority": {"enum": ["high", "normal", "low"]},
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


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the responses that are problem documents with one of ``codes``, by status."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code].value, []).append(code)
    return {
        str(status): {
            "description": " or ".join(f"`{code}`" for code in found),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": _PROBLEM},
                    "examples": {code: {"value": _problem(code)} for code in found},
                }
            },
        }
        for status, found in sorted(by_status.items())
    }


def _problem(code: str) -> dict[str, Any]:
    """Return an example of a problem document with this code."""
    kind = BY_CODE[code]
    error = kind((kind.__doc__ or code).splitlines()[0], where=_WHERE.get(code))
    example: dict[str, Any] = json.loads(problem_of(error, request_id="0f3e5a7c91b24d68").body)
    return example


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
