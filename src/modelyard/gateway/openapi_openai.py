"""The OpenAPI document's operations of the OpenAI API, with an example for every model."""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway.openai import gives
from modelyard.gateway.shortening import shorten_example
from modelyard.openai import ChatCompletion, ChatRequest, Completion, CompletionRequest

_TAG = "OpenAI"
_TYPES = (ChatRequest, ChatCompletion, CompletionRequest, Completion)
_CALLS = (
    ("/v1/chat/completions", "Continue a chat", "chat.completion", ChatRequest, ChatCompletion),
    ("/v1/completions", "Continue a text", "text_completion", CompletionRequest, Completion),
)
_EMBEDDINGS: dict[str, Any] = {
    "EmbeddingsRequest": {
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": {"type": "string"},
            "input": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
            "encoding_format": {"enum": ["float", "base64"]},
        },
    },
    "EmbeddingsAnswer": {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"type": "object"}},
            "model": {"type": "string"},
            "usage": {"type": "object"},
        },
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
            }
        },
    },
}


NO_ANSWER = {
    "description": "No answer; the statuses of `/predict`",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}},
}


def content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the content of a request or an answer of this type."""
    return _content(kind.__name__, {})


def add_openai(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return ``document`` with the operations, for the models in ``catalog``."""
    _, types = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    for request in (ChatRequest, CompletionRequest):  # a model may be asked without, by /predict
        types[request.__name__]["required"].append("model")
    document.setdefault("components", {}).setdefault("schemas", {}).update(types | _EMBEDDINGS)
    paths = document.setdefault("paths", {})
    for path, summary, kind, request, answer in _CALLS:
        examples = _examples(catalog.entries(), kind)
        paths[path] = _operation(summary, request.__name__, answer.__name__, examples)
    paths["/v1/embeddings"] = _operation("Embed texts", "EmbeddingsRequest", "EmbeddingsAnswer", {})
    return document


def _operation(
    summary: str, request: str, answer: str, examples: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    return {
        "post": {
            "tags": [_TAG],
            "summary": summary,
            "requestBody": {"required": True, "content": _content(request, examples)},
            "responses": {
                "200": {"description": "The answer", "content": _content(answer, {})},
                "default": NO_ANSWER,
            },
        }
    }


def _content(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    shown = {"examples": examples} if examples else {}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, **shown}}


def _examples(entries: list[Entry], kind: str) -> dict[str, Any]:
    """Return a request for each model that gives such answers, made from its own example."""
    found = {}
    for entry in entries:
        known = entry.announcement.schema
        if known is None or known.output == b"{}" or not gives(known.output, kind):
            continue
        example, is_cut = shorten_example(known.example)
        if isinstance(example, list) and example and not is_cut:
            value = {**example[0], "model": entry.target.name}
            value = {name: field for name, field in value.items() if field is not None}
            label = f"{entry.target.name}.{entry.target.version}"
            found[label] = {"summary": str(entry.target), "value": value}
    return found
