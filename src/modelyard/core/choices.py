"""The values that an enum or a ``Literal`` allows, for an error that msgspec reports without them.

msgspec names the value and its place. The place is followed through the annotation, to the types
that may stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

MOST_NAMED = 20
KEY = "key` in `"
"""What msgspec writes before the place of an object of which a key is wrong."""
_REFUSED = re.compile(r"Invalid (enum )?value ")


def split_error(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what msgspec says is wrong, and where: ``$[0].colour``; "" if it says no place."""
    problem, _, path = str(error).rpartition(" - at ")
    return (problem, path.strip("`")) if problem else (path, "")


def with_choices(problem: str, place: str, annotation: Any) -> str:
    """Return ``problem`` followed by the values allowed at ``place``, if it is about these.

    ``annotation``: of the whole value; the ``$`` in ``place``.
    """
    if not _REFUSED.match(problem):
        return problem
    is_key, place = place.startswith(KEY), place.removeprefix(KEY)
    kind = inspect.type_info(annotation)
    values = dict.fromkeys(_values(kind, place.removeprefix("$"), is_key=is_key))
    if not values:
        return problem
    named = ", ".join(msgspec.json.encode(value).decode() for value in list(values)[:MOST_NAMED])
    more = len(values) - MOST_NAMED
    return f"{problem}; expected one of {named}" + (f" and {more} more" if more > 0 else "")


def _values(kind: inspect.Type, path: str, *, is_key: bool) -> Iterator[Any]:
    """Give the values that may stand at ``path`` below a type."""
    if isinstance(kind, inspect.Metadata):
        yield from _values(kind.type, path, is_key=is_key)
    elif isinstance(kind, inspect.UnionType):
        for choice in kind.types:
            yield from _values(choice, path, is_key=is_key)
    elif path:
        for inner, rest in _steps(kind, path):
            yield from _values(inner, rest, is_key=is_key)
        if isinstance(kind, inspect.StructType) and kind.tag and path == f".{kind.tag_field}":
            yield kind.tag
    elif is_key and isinstance(kind, inspect.DictType):
        yield from _values(kind.key_type, "", is_key=False)
    elif isinstance(kind, inspect.LiteralType):
        yield from kind.values
    elif isinstance(kind, inspect.EnumType):
        yield from (member.value for member in kind.cls)


def _steps(kind: inspect.Type, path: str) -> Iterator[tuple[inspect.Type, str]]:
    """Give the types that the first step of ``path`` leads to, each with the rest of it."""
    fields = getattr(kind, "fields", ())
    if path[0] == ".":
        for field in fields:
            rest = path.removeprefix(f".{field.encode_name}")
            if rest != path and rest[:1] in ("", ".", "["):
                yield field.type, rest
        return
    index, _, rest = path[1:].partition("]")
    if isinstance(kind, inspect.DictType):
        yield kind.value_type, rest
    elif isinstance(kind, inspect.TupleType):
        yield kind.item_types[int(index)], rest
    elif fields and index.isdecimal():  # of what is written as an array
        start = 1 if getattr(kind, "tag", None) is not None else 0
        yield fields[int(index) - start].type, rest
    elif (item := getattr(kind, "item_type", None)) is not None:
        yield item, rest
