"""Names of models and versions, and the order of versions.

A name is looked up in the catalog and never joined into a path, so it can name nothing but a model.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_NAME = re.compile(NAME_PATTERN.replace("$", r"\Z"))
_PARTS = re.compile(r"\d+|[a-z]+")

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]


class Target(msgspec.Struct, frozen=True, order=True):
    """A model name and version: what a request is sent to."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def is_name(text: str) -> bool:
    """Tell whether ``text`` may name a model or a version."""
    return _NAME.match(text) is not None


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Give the key by which versions sort: numbers by value, so that "10" comes after "9"."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in _PARTS.findall(version)
    )
