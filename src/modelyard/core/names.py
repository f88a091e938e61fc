"""Names of models and versions, and the order of versions.

A name is looked up in the catalog and never joined into a path, so it cannot address a file.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated

import msgspec

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}\Z"  # not $, which allows a line break
NAME_RULE = "lower-case letters, digits, '.', '_' and '-', at most 64"
_NAME = re.compile(NAME_PATTERN)
_PARTS = re.compile(r"\d+|[a-z]+")

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]


class Target(msgspec.Struct, frozen=True, order=True):
    """A model name and version: what a request is sent to."""

    name: Name
    version: Name

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def is_name(text: str) -> bool:
    """Return whether ``text`` is a valid name of a model or a version."""
    return _NAME.match(text) is not None


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return the sort key of a version: "10" after "9", "1.0-rc1" before "1.0"."""
    parts = [
        (2, int(part), "") if part.isdigit() else (0, 0, part) for part in _PARTS.findall(version)
    ]
    return (*parts, (1, 0, version))  # 1.0-rc1 < 1.0 < 1.0.1; no two are equal


def is_loopback(host: str) -> bool:
    """Return whether an address, of a server or of a client, is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
