"""Every key of ``model.toml``, with its default and what it means, for documentation."""

from __future__ import annotations

import msgspec

from modelyard.core.manifest import Manifest


class Key(msgspec.Struct, frozen=True):
    """One key of ``model.toml``, for documentation.

    ``table`` is "" at the top of the file. ``default`` is written as in TOML, and "null" for
    nothing; None if the key is required.
    """

    table: str
    name: str
    default: str | None
    meaning: str


def keys() -> list[Key]:
    """Return every key, in the order of the file."""
    return _keys_of(Manifest, table="")


def _keys_of(struct: type[msgspec.Struct], *, table: str) -> list[Key]:
    found: list[Key] = []
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += _keys_of(field.type, table=field.encode_name)
            continue
        metas = getattr(field.type, "__metadata__", ())
        meaning = next(meta.description for meta in reversed(metas) if meta.description)
        found.append(Key(table, field.encode_name, _default_of(field), meaning))
    return found


def _default_of(field: msgspec.structs.FieldInfo) -> str | None:
    if field.required:
        return None
    made = field.default_factory
    value = field.default if made is msgspec.NODEFAULT else made()
    return msgspec.json.encode(value).decode()
