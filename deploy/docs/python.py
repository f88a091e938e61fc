"""docs/python.md: the names for people who write Python, from their docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

import modelyard
import modelyard.arrays
import modelyard.client
import modelyard.testing

_PAGE = """\
# Python

<!-- Written by `make reference` from docstrings. -->

The names that models, tests of models and callers import. Guides: [writing a model](writing-a-model.md),
[testing a model](testing-a-model.md), [clients](clients.md). `modelyard.client` is also a package of its own, `modelyard_client`.

{sections}"""
_MODULES = (modelyard, modelyard.testing, modelyard.arrays, modelyard.client)
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
_CODE = re.compile(r"::\n\n((?: {4}.*(?:\n|\Z)|\n)+)")
_ENTRY = re.compile(r"^ {4}(\S[^:\n]*): ", re.MULTILINE)


def python_page() -> str:
    """Give docs/python.md."""
    return _PAGE.format(sections="\n".join(part for one in _MODULES for part in _of_module(one)))


def _of_module(module: ModuleType) -> Iterator[str]:
    yield f"## {module.__name__}\n"
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        yield f"### {module.__name__}.{name}\n\n{_signature(name, thing)}{_text_of(thing)}\n"
        if inspect.isclass(thing):
            yield from _methods(name, thing)


def _methods(name: str, owner: type) -> Iterator[str]:
    """Give what a class itself defines: what it inherits stands with its parent."""
    for method, found in vars(owner).items():
        if isinstance(found, cached_property):
            yield f"#### {name}.{method}\n\n{_text_of(found.func)}\n"
        function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        if method.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        yield f"#### {name}.{method}\n\n{_signature(method, function)}{_text_of(function)}\n"


def _signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        return ""  # a struct or an exception: its attributes are in the text
    found = inspect.signature(thing)
    kept = [one for one in found.parameters.values() if one.name != "self"]
    shown = ", ".join(_parameter(one) for one in _with_star(kept))
    return f"```python\n{name}({shown})\n```\n\n"


def _with_star(parameters: list[inspect.Parameter]) -> Iterator[inspect.Parameter | None]:
    """Give parameters; None stands before the first that has to be named."""
    is_named = False
    for one in parameters:
        if one.kind is one.VAR_POSITIONAL:
            is_named = True
        if one.kind is one.KEYWORD_ONLY and not is_named:
            is_named = True
            yield None
        yield one


def _parameter(one: inspect.Parameter | None) -> str:
    if one is None:
        return "*"
    kinds: dict[object, str] = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}
    stars = kinds.get(one.kind, "")
    annotation = "" if one.annotation is one.empty else f": {one.annotation}"
    simple = isinstance(one.default, str | int | float | bool | type(None))
    default = "" if one.default is one.empty else f" = {one.default!r}" if simple else " = …"
    return f"{stars}{one.name}{annotation}{default}"


def _text_of(thing: Any) -> str:
    """Give a docstring as Markdown: its lists of arguments and errors as lists."""
    text = _CODE.sub(_fenced, inspect.cleandoc(thing.__doc__ or "").replace("``", "`"))
    first, *rest = _SECTION.split(text)
    parts = [first.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        parts.append(f"*{title}*\n\n{_entries(body)}")
    return "\n\n".join(filter(None, parts)) + "\n"


def _fenced(found: re.Match[str]) -> str:
    return f":\n\n```python\n{textwrap.dedent(found[1]).strip()}\n```\n\n"


def _entries(body: str) -> str:
    cleaned = re.sub(r"\n {8,}", " ", body.strip("\n"))
    entries = _ENTRY.sub(r"- `\1`: ", cleaned)
    return "\n".join(line.strip() for line in entries.splitlines() if line.strip())
