"""A form from a model's schema, filled in with its example; and an instance from what was sent.

A schema is JSON Schema as models announce it. What a form cannot show well, such as an image or a
list of any length, is a field of JSON. Names of fields are paths: ``i.age``, ``i.2``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from modelyard.core.errors import InvalidInput

ROOT = "i"
MOST_FIELDS = 40
MOST_ITEMS = 24  # of a list that has a field for each
DEEPEST = 3
LONGEST_SHOWN = 4000  # characters of an example in a field

Schema = Mapping[str, Any]


class Field(NamedTuple):
    """A field of a form.

    Attributes:
        name: Its path.
        label: What is above it.
        kind: ``text``, ``number``, ``whole``, ``yes``, ``choice``, or ``json``.
        value: What it holds at first.
        hint: What may stand there.
        choices: Of a ``choice``.
        is_required: Whether it may not be left empty.
    """

    name: str
    label: str
    kind: str
    value: str
    hint: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = True


def instance_schema(schema: Schema | None) -> Schema:
    """Return the schema of one instance; one that allows anything if it is not known."""
    if not schema:
        return {}
    found = dict(_meant(schema, schema))
    items = found.get("items")
    if not isinstance(items, Mapping):
        return {}
    return {**items, "$defs": schema.get("$defs", {})}


def fields_of(schema: Schema | None, example: object) -> list[Field]:
    """Return the fields of one instance, with an example of it."""
    inner = instance_schema(schema)
    found = _fields(inner, inner, ROOT, "", example, required=True, depth=0)
    if len(found) > MOST_FIELDS:
        return [_json(ROOT, "the instance", example, "as JSON")]
    return found


def read_instance(schema: Schema | None, sent: Mapping[str, str]) -> object:
    """Return the instance that a form says.

    Raises:
        InvalidInput: A field does not hold what it should; says which.
    """
    inner = instance_schema(schema)
    fields = fields_of(schema, None)
    if fields and fields[0].name == ROOT:
        return _read(fields[0], sent.get(ROOT, ""))
    found = _gather(inner, inner, ROOT, {field.name: field for field in fields}, sent)
    return {} if found is _LEFT_OUT else found


def _fields(
    schema: Schema,
    whole: Schema,
    path: str,
    label: str,
    example: object,
    *,
    required: bool,
    depth: int,
) -> list[Field]:
    schema = _meant(schema, whole)
    kind, name = schema.get("type"), label or "the instance"
    if kind == "object" and schema.get("properties") and depth < DEEPEST:
        found = []
        needed = schema.get("required", ())
        given = example if isinstance(example, Mapping) else {}
        for key, inner in schema["properties"].items():
            inside = f"{label}.{key}" if label else str(key)
            value = given.get(key, inner.get("default"))
            found += _fields(
                inner,
                whole,
                f"{path}.{key}",
                inside,
                value,
                required=required and key in needed,
                depth=depth + 1,
            )
        return found
    if (items := _items(schema)) and depth < DEEPEST:
        given_items = example if isinstance(example, list) else [None] * len(items)
        found = []
        for number, inner in enumerate(items):
            value = given_items[number] if number < len(given_items) else None
            inside = f"{label}[{number}]" if label else _label_of(inner, number)
            found += _fields(
                inner, whole, f"{path}.{number}", inside, value, required=True, depth=depth + 1
            )
        return found
    return [_field(schema, path, name, example, required=required)]


def _items(schema: Schema) -> list[Schema]:
    """Return the schema of each item of a list that has always as many; none of another one."""
    if schema.get("type") != "array":
        return []
    if isinstance(prefix := schema.get("prefixItems"), list):
        return prefix if len(prefix) <= MOST_ITEMS else []
    length = schema.get("minItems")
    if not length or length != schema.get("maxItems") or length > MOST_ITEMS:
        return []
    return [schema.get("items", {})] * int(length)


def _label_of(schema: Schema, number: int) -> str:
    return str(schema.get("title") or f"[{number}]")


def _field(schema: Schema, path: str, label: str, example: object, *, required: bool) -> Field:
    kind, hint = schema.get("type"), _hint(schema)
    value = "" if example is None else str(example)
    if "enum" in schema:
        choices = tuple(map(_text_of, schema["enum"]))
        return Field(path, label, "choice", _text_of(example), hint, choices, required)
    if kind == "boolean":
        return Field(path, label, "yes", "on" if example else "", hint, (), False)
    if kind in ("number", "integer"):
        return Field(
            path, label, "number" if kind == "number" else "whole", value, hint, (), required
        )
    if kind == "string" and schema.get("contentEncoding") is None:
        return Field(path, label, "text", value, hint, (), False)
    return _json(path, label, example, hint or "JSON", required=required)


def _json(path: str, label: str, example: object, hint: str, *, required: bool = True) -> Field:
    text = "" if example is None else json.dumps(example, ensure_ascii=False)
    if len(text) > LONGEST_SHOWN:
        text, hint = "", f"{hint}; the example is too long to be shown here"
    return Field(path, label, "json", text, hint, (), required)


def _hint(schema: Schema) -> str:
    parts = [str(schema["description"])] if "description" in schema else []
    names = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    parts += [f"{word} {schema[key]:g}" for key, word in names.items() if key in schema]
    return ", ".join(parts)


def _meant(schema: Schema, whole: Schema) -> Schema:
    """Follow references, and take the part of a choice that is not null."""
    for _ in range(DEEPEST * 2):
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            more = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**whole.get("$defs", {}).get(name, {}), **more}
            continue
        some = schema.get("anyOf")
        if not some:
            return schema
        real = [one for one in some if one.get("type") != "null"]
        if len(real) != 1:
            return {key: value for key, value in schema.items() if key != "anyOf"}
        schema = {**real[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    return {}


_LEFT_OUT = object()


def _gather(
    schema: Schema, whole: Schema, path: str, fields: Mapping[str, Field], sent: Mapping[str, str]
) -> object:
    """Put an instance together; what is optional and empty is left out."""
    if (field := fields.get(path)) is not None:
        text = sent.get(path, "")
        if not text and not field.is_required and field.kind not in ("text", "yes"):
            return _LEFT_OUT
        return _read(field, text)
    schema = _meant(schema, whole)
    if items := _items(schema):
        return [
            _gather(inner, whole, f"{path}.{number}", fields, sent)
            for number, inner in enumerate(items)
        ]
    found = {
        key: _gather(inner, whole, f"{path}.{key}", fields, sent)
        for key, inner in schema.get("properties", {}).items()
    }
    return {key: value for key, value in found.items() if value is not _LEFT_OUT}


def _read(field: Field, text: str) -> object:
    """Return the value of a field.

    Raises:
        InvalidInput: It has none.
    """
    try:
        if field.kind == "yes":
            return bool(text)
        if field.kind == "text":
            return text
        if field.kind == "choice":
            return text if text in field.choices and not _is_json(text) else json.loads(text)
        if field.kind == "whole":
            return int(text)
        if field.kind == "number":
            return int(text) if text.lstrip("+-").isdigit() else float(text)
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        meant = {"whole": "a whole number", "number": "a number"}.get(field.kind, "JSON")
        raise InvalidInput(f"{field.label}: {text[:80]!r} is not {meant}") from error


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_json(text: str) -> bool:
    try:
        return not isinstance(json.loads(text), str)
    except (ValueError, RecursionError):
        return False
