"""The OpenAPI document's predictions at each model's own address, for generated clients and forms.

They take and give what ``POST /predict`` does (``openapi.py``), and share its schemas; a model of
files or texts takes those as they are too. Each model has an operation; the address of a version is
one for all of them, so that the page does not become slow with many models.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.core.messages import Schema
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.problems import MEDIA_TYPE
from modelyard.gateway.shortening import shorten_example

TAG = "predictions at a model's address"
OF_VERSION = "/models/{name}/versions/{version}/predict"

_BINARY = {"type": "string", "format": "binary"}
_TIMEOUT_S = {"type": "number", "exclusiveMinimum": 0}
_PRIORITY = {"enum": ["high", "normal", "low"]}
_PACKED = {"type": "object", "description": "The same fields as in JSON."}
_FILES: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "minItems": 1,
            "items": _BINARY,
            "description": "the instances, in their order; any name will do",
        },
        "timeout_s": _TIMEOUT_S,
        "priority": _PRIORITY,
    },
}
_OPTIONS: dict[str, Any] = {
    name: {
        "name": name,
        "in": "query",
        "description": "where the body is a file; otherwise it is a field of the body",
        "schema": schema,
    }
    for name, schema in (("timeout_s", _TIMEOUT_S), ("priority", _PRIORITY))
}
_NO_PREDICTION = {
    "description": "No prediction; the statuses of `POST /predict`",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def add_addresses(document: dict[str, Any], catalog: Catalog) -> None:
    """Add the operations to ``document``, which has the schemas of ``POST /predict`` already."""
    paths, components = document["paths"], document["components"]
    requests, answers, media_types = [], [], set()
    for entry in catalog.entries():
        known = entry.announcement.schema
        if known is None:
            continue
        request, answer = (
            {"$ref": f"#/components/schemas/{entry.target.name}.{entry.target.version}.{of}"}
            for of in ("request", "answer")
        )
        media_type = _media_type_of(known)
        if catalog.is_default(entry):
            in_json = {"schema": request, **_example_of(known)}
            operation = _operation(str(entry.target), in_json, answer, {media_type} - {""})
            paths[f"/models/{entry.target.name}/predict"] = {"post": operation}
        requests.append(request)
        answers.append(answer)
        media_types |= {media_type} - {""}
    if requests:
        components["schemas"]["Packed"] = _PACKED
        components.setdefault("responses", {})["NoPrediction"] = _NO_PREDICTION
        any_of_them = ({"anyOf": requests}, {"anyOf": answers})
        operation = _operation("A version", {"schema": any_of_them[0]}, any_of_them[1], media_types)
        in_path = {"in": "path", "required": True, "schema": {"type": "string"}}
        own = [{"name": name, **in_path} for name in ("name", "version")]
        operation["parameters"] = [*own, *operation.get("parameters", ())]
        paths[OF_VERSION] = {"post": operation}
    if media_types:
        components["schemas"]["Files"] = _FILES
        components.setdefault("parameters", {}).update(_OPTIONS)


def _media_type_of(known: Schema) -> str:
    """Return the type of a file that is one instance of the model; empty if it takes none."""
    items = msgspec.json.decode(known.input).get("items", {})
    if not isinstance(items, dict) or items.get("type") != "string" or "enum" in items:
        return ""
    return "application/octet-stream" if "contentEncoding" in items else "text/plain"


def _example_of(known: Schema) -> dict[str, Any]:
    """Return the model's own example, if it is short enough to be shown whole."""
    example, is_cut = shorten_example(known.example)
    return {} if example is None or is_cut else {"example": {"input_data": example}}


def _operation(
    summary: str, in_json: dict[str, Any], answer: dict[str, Any], media_types: set[str]
) -> dict[str, Any]:
    """Return an operation; ``media_types``: of files that may be the body."""
    packed = {"schema": {"$ref": "#/components/schemas/Packed"}}
    taken = {"application/json": in_json, "application/msgpack": packed}
    given = {"application/json": {"schema": answer}, "application/msgpack": packed}
    if media_types:
        taken["multipart/form-data"] = {"schema": {"$ref": "#/components/schemas/Files"}}
        taken |= {media_type: {"schema": _BINARY} for media_type in sorted(media_types)}
    operation: dict[str, Any] = {
        "tags": [TAG],
        "summary": summary,
        "requestBody": {"required": True, "content": taken},
        "responses": {
            "200": {"description": "The predictions", "content": given},
            "default": {"$ref": "#/components/responses/NoPrediction"},
        },
    }
    if media_types:
        operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in _OPTIONS]
    return operation
