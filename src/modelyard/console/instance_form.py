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
LONGEST_LINE = 60  # characters of a text in a field of one line
TELLING = 1e15  # a limit beyond that is the type's own, and tells nobody anything

Schema = Mapping[str, Any]


class Field(NamedTuple):
    """A field of a form.

    Attributes:
        name: Its path.
        label: What is above it.
        kind: ``text``, ``long`` (text), ``file``, ``number``, ``whole``, ``yes``, ``choice``, or
            ``json``.
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
        return [_json(ROOT, "the instance", example, _shape(inner))]
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
    required = required and not _may_be_null(schema)
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
    if kind == "string":
        # A text that is left empty is an empty text, but for one that may be null or left out.
        required = required or schema.get("default") is not None
        form = "long" if len(value) > LONGEST_LINE or "\n" in value else "text"
        if schema.get("contentEncoding") is not None:
            form, hint = "file", hint or "a file's bytes, in base64"
        return _short(Field(path, label, form, value, hint, (), required))
    return _json(path, label, example, hint or _shape(schema), required=required)


def _short(field: Field) -> Field:
    """Return a field without its value if that is too long to be shown."""
    if len(field.value) <= LONGEST_SHOWN:
        return field
    hint = f"{field.hint}; " if field.hint else ""
    return field._replace(value="", hint=f"{hint}the example is too long to be shown here")


def _shape(schema: Schema) -> str:
    """Return what a field of JSON holds: ``3 x 8 x 8 numbers, as JSON``."""
    lengths = []
    while schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        length = schema.get("minItems")
        lengths.append(str(length) if length == schema.get("maxItems") else "any")
        schema = schema["items"]
    if "any" in lengths or schema.get("type") not in ("number", "integer"):
        return "JSON"
    return f"{' x '.join(lengths)} numbers, as JSON"


def _json(path: str, label: str, example: object, hint: str, *, required: bool = True) -> Field:
    text = "" if example is None else json.dumps(example, ensure_ascii=False)
    return _short(Field(path, label, "json", text, hint, (), required))


def _hint(schema: Schema) -> str:
    parts = [str(schema["description"])] if "description" in schema else []
    names = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    limits = {key: schema[key] for key in names if abs(schema.get(key, TELLING)) < TELLING}
    parts += [f"{names[key]} {limit:g}" for key, limit in limits.items()]
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


def _may_be_null(schema: Schema) -> bool:
    return any(one.get("type") == "null" for one in schema.get("anyOf", ()))


_LEFT_OUT = object()


def _gather(
    schema: Schema, whole: Schema, path: str, fields: Mapping[str, Field], sent: Mapping[str, str]
) -> object:
    """Put an instance together; what is optional and empty is left out."""
    if (field := fields.get(path)) is not None:
        text = sent.get(path, "")
        if not text and not field.is_required and field.kind != "yes":
            return None if _may_be_null(schema) and "default" not in schema else _LEFT_OUT
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
        if field.kind in ("text", "long", "file"):
            # Browsers make \r\n of the ends of lines; in base64 none of them counts.
            return "".join(text.split()) if field.kind == "file" else text.replace("\r\n", "\n")
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
