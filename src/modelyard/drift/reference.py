"""What is known of a reference, as it is kept in a file; needs no library."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["number", "category"]


class UnusableProfileError(Exception):
    """The file is no profile; the text says why."""


class Feature(msgspec.Struct, frozen=True):
    """One feature of the reference.

    Attributes:
        name: Its path, as in the rules of the payload log: ``request.age``, ``answer``.
        missing: In so many rows there was none.
        sample: Its values, sorted, or ``LARGEST_SAMPLE`` quantiles of them.
        edges: Between bins that hold about equally many of them.
        counts: In each bin; one more than ``edges``. Of categories: by ``categories``.
        categories: The most frequent; all others are one more.
        once: How many categories came once: as many as that may well be new in other rows.
    """

    name: str
    kind: Kind
    rows: int
    missing: int
    sample: list[float] = []
    edges: list[float] = []
    counts: list[int] = []
    categories: list[str] = []
    once: int = 0


class Profile(msgspec.Struct, frozen=True):
    """The reference of one model: features of its requests, and of its answers."""

    rows: int
    features: list[Feature]


def profile_in(content: bytes) -> Profile:
    """Return the profile that a file holds.

    Raises:
        UnusableProfileError: It is none.
    """
    try:
        return msgspec.json.decode(content, type=Profile)
    except ValueError as error:
        raise UnusableProfileError(str(error)) from error


def read_profile(path: Path) -> Profile:
    """Return a profile that ``modelyard drift profile`` has written.

    Raises:
        UnusableProfileError: It is none.
    """
    try:
        return profile_in(path.read_bytes())
    except (OSError, UnusableProfileError) as error:
        raise UnusableProfileError(f"{path}: {error}") from error
