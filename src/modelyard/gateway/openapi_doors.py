"""The OpenAPI document's operations of V2 and V1 that are no pages: inference and predictions.

Each has an example for every model, made from the model's own.
"""

from __future__ import annotations

import json
from typing import Any

from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway.shortening import shorten_example

_V2, _V1 = "Open Inference Protocol V2", "V1"

_INFER = """\
One output per tensor that the model gives. `GET /v2/models/{name}` tells names, datatypes and
shapes; axis 0 is the batch. The datatype of an input may be narrower than the model's.

Tensors may be binary, behind the JSON (`Content-Type: application/octet-stream`, with
`Inference-Header-Content-Length`). The parameters `priority` (1 is high) and `timeout`
(microseconds) are those of `/predict`.
"""

_GENERATE = """\
For models of texts, or of objects. `text_input` is the text; of a model of objects the request is
one of them, with `id` besides. `generate_stream` answers in server-sent events, if the model gives
pieces.
"""

_TENSOR_FIELDS: dict[str, Any] = {
    "name": {"type": "string"},
    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    "datatype": {"type": "string"},
    "parameters": {"type": "object"},
    "data": {"type": "array", "description": "row-major, flat or nested"},
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": _TENSOR_FIELDS,
}
_SCHEMAS: dict[str, Any] = {
    "ErrorAnswer": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
    "InferenceRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {
                "type": "object",
                "properties": {
                    "priority": {"type": "integer", "minimum": 0},
                    "timeout": {"type": "integer", "minimum": 0},
                    "binary_data_output": {"type": "boolean"},
                },
            },
            "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                },
            },
        },
    },
    "InferenceAnswer": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _TENSOR},
        },
    },
    "GenerationRequest": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "text_input": {"type": "string"},
            "parameters": {"type": "object"},
        },
    },
    "GenerationAnswer": {
        "type": "object",
        "required": ["model_name", "model_version"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
        },
    },
    "V1Request": {
        "type": "object",
        "required": ["instances"],
        "properties": {
            "instances": {
                "type": "array",
                "minItems": 1,
                "description": "`input_data` of `/predict`",
            }
        },
    },
    "V1Answer": {
        "type": "object",
        "required": ["predictions"],
        "properties": {
            "predictions": {"type": "array", "description": "`prediction` of `/predict`"}
        },
    },
}


_BINARY = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": "The JSON, and binary tensors behind it",
    }
}


def add_doors(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return ``document`` with the operations, for the models in ``catalog``."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update({name: schema for name, schema in _SCHEMAS.items() if name not in schemas})
    infer, predict = {}, {}
    for entry in catalog.entries():
        label = f"{entry.target.name}.{entry.target.version}"
        if (example := _small_example(entry)) is None:
            continue
        predict[label] = {"summary": str(entry.target), "value": {"instances": example}}
        if (inputs := _as_tensors(entry, example)) is not None:
            infer[label] = {"summary": str(entry.target), "value": {"inputs": inputs}}
    paths = document.setdefault("paths", {})
    for suffix, more in (("", ""), ("/versions/{version}", ", of a version")):
        names = ("name", "version") if suffix else ("name",)
        paths[f"/v2/models/{{name}}{suffix}/infer"] = {
            "post": {
                "tags": [_V2],
                "summary": f"Infer{more}",
                "description": _INFER,
                "parameters": _in_path(names),
                **_body_and_answer("Inference", {} if suffix else infer),
            }
        }
        inferred = paths[f"/v2/models/{{name}}{suffix}/infer"]["post"]["responses"]["200"]
        inferred["content"]["application/octet-stream"] = _BINARY
        for verb, what in (("generate", "Generate"), ("generate_stream", "Generate in pieces")):
            paths[f"/v2/models/{{name}}{suffix}/{verb}"] = {
                "post": {
                    "tags": [_V2],
                    "summary": f"{what}{more}",
                    "description": _GENERATE,
                    "parameters": _in_path(names),
                    **_body_and_answer("Generation", {}, is_stream=verb != "generate"),
                }
            }
        paths[f"/v1/models/{{name}}{suffix}:predict"] = {
            "post": {
                "tags": [_V1],
                "summary": f"Predict{more}",
                "parameters": _in_path(names),
                **_body_and_answer("V1", {} if suffix else predict),
            }
        }
    return document


def _in_path(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]


def _body_and_answer(
    kind: str, examples: dict[str, Any], *, is_stream: bool = False
) -> dict[str, Any]:
    """Return an operation's ``requestBody`` and ``responses``; ``kind``: prefix of its schemas."""
    media_type = "text/event-stream" if is_stream else "application/json"
    request = {"schema": {"$ref": f"#/components/schemas/{kind}Request"}, "examples": examples}
    return {
        "requestBody": {"required": True, "content": {"application/json": request}},
        "responses": {
            "200": _answer("The predictions", f"{kind}Answer", media_type),
            "default": _answer("No prediction; the statuses of `/predict`", "ErrorAnswer"),
        },
    }


def _answer(description: str, schema: str, media_type: str = "application/json") -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _small_example(entry: Entry) -> list[Any] | None:
    """Return a model's own example; None if it is too large to be shown whole."""
    known = entry.announcement.schema
    if known is None:
        return None
    example, is_cut = shorten_example(known.example)
    return example if isinstance(example, list) and example and not is_cut else None


def _as_tensors(entry: Entry, example: list[Any]) -> list[dict[str, Any]] | None:
    """Return instances as the model's inputs; None if the gateway cannot translate them, as for
    files, which are base64 in JSON but raw bytes in a tensor.
    """
    known = entry.announcement.schema
    if known is None or not known.tensors or b'"contentEncoding"' in known.input:
        return None
    specs = json.loads(known.tensors)["inputs"]
    first = example[0]
    is_by_field = len(specs) > 1 or (isinstance(first, dict) and specs[0]["name"] in first)
    inputs = []
    for spec in specs:
        column = [row.get(spec["name"]) for row in example] if is_by_field else example
        parameters = spec.get("parameters", {})
        if any(value is None for value in column) and parameters.get("optional"):
            continue
        if "content_type" in parameters:
            column = [json.dumps(value) for value in column]
        inputs.append(
            {
                "name": spec["name"],
                "datatype": spec["datatype"],
                "shape": [len(column), *spec["shape"][1:]],
                "data": column,
            }
        )
    return None if any(spec["datatype"] == "FP16" for spec in specs) else inputs
