"""How a version in the registry is named: ``NAME@VERSION``, or ``NAME@ALIAS``."""

from __future__ import annotations

import re
from typing import NamedTuple

from modelyard.core.names import NAME_PATTERN

_PART = NAME_PATTERN.removeprefix("^").removesuffix(r"\Z")
_REFERENCE = re.compile(rf"({_PART})@({_PART})(?:@(sha256:[0-9a-f]{{64}}))?")


class Reference(NamedTuple):
    """What names a version: a version or an alias, and the digest that it must have, or empty."""

    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def parse_reference(text: str) -> Reference | None:
    """Return the reference in ``NAME@VERSION`` or ``NAME@VERSION@sha256:…``; None if it is none."""
    found = _REFERENCE.fullmatch(text)
    return None if found is None else Reference(found[1], found[2], found[3] or "")
