"""Annotations of ``predict`` that look right and cannot be served, and what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import inspect as types

_PLAIN = {"floating": "float", "integer": "int", "bool": "bool", "bool_": "bool"}
"""Numpy's kinds of scalars, and Python's type of the same kind."""


def is_generator(predict: Callable[..., Any]) -> bool:
    """Return whether a call gives pieces, and no predictions."""
    return inspect.isasyncgenfunction(predict) or inspect.isgeneratorfunction(predict)


def advise_on_elements(annotation: Any) -> str | None:
    """Return what to write in place of a class in ``list[…]`` that msgspec does not know, or None
    if there is none.
    """
    try:
        kind = types.type_info(annotation)
    except Exception:  # its own message is better: for a wrong bound, for example
        return None
    unknown = next(_custom_classes(kind, set()), None)
    if unknown is None:
        return None
    name = unknown.__name__
    if name == "ndarray":
        return (
            'numpy arrays do not stand in a list; write Annotated[np.ndarray, Tensor("float32", '
            "(4,))], the shape of one instance, in place of the list: axis 0 is the batch. Several "
            "arrays are a subclass of modelyard.Columns"
        )
    if hasattr(unknown, "model_fields") and hasattr(unknown, "model_validate"):
        return f"{name} is a pydantic model; write class {name}(msgspec.Struct)"
    if unknown.__module__ == "numpy":
        found = (_PLAIN.get(base.__name__) for base in unknown.__mro__)
        plain = next(filter(None, found), "str")
        return f"{name} is a type of numpy; write a type that msgspec can decode: {plain}"
    return (
        f"{name} is a class that JSON cannot be decoded into; write a type that msgspec can "
        f"decode: class {name}(msgspec.Struct), or a dataclass"
    )


def _custom_classes(kind: Any, seen: set[int]) -> Iterator[type]:
    """Give the classes in a type that msgspec does not know."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    if isinstance(kind, types.CustomType):
        yield kind.cls
    elif isinstance(kind, tuple):
        for item in kind:
            yield from _custom_classes(item, seen)
    elif isinstance(kind, types.Type | types.Field):
        for name in kind.__struct_fields__:
            value = getattr(kind, name)
            if isinstance(value, types.Type | types.Field | tuple):
                yield from _custom_classes(value, seen)
