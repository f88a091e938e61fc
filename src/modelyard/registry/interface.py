"""The registry as commands, workers and pages see it.

Two things implement it: ``kept.py`` on the store itself, ``remote.py`` through a gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Protocol

import msgspec

from modelyard.core.names import Target
from modelyard.core.versions import Change, Contents, VersionDetails, VersionSummary

PIECE_BYTES = 1 << 20


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection removed.

    Attributes:
        versions: ``NAME/VERSION`` of each version.
        artefacts: Digests that no version needs.
        freed_bytes: Of the artefacts.
        is_done: False if it was only looked.
    """

    versions: tuple[str, ...]
    artefacts: tuple[str, ...]
    freed_bytes: int
    is_done: bool


class Registry(Protocol):
    """The registry. All methods may block.

    They raise a RequestError for what is refused or not there, and ``Unavailable`` if the store or
    the place of the artefacts does not do as it is told.
    """

    def versions(self, name: str | None = None) -> list[VersionSummary]:
        """Return all versions, or those of a model, the newest last."""
        ...

    def find(self, name: str, reference: str) -> VersionDetails:
        """Return the version that a reference means: a version, or an alias."""
        ...

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return which artefacts have to be sent."""
        ...

    def send(self, digest: str, size: int, stream: IO[bytes]) -> None:
        """Keep an artefact."""
        ...

    def push(self, target: Target, contents: Contents) -> VersionDetails:
        """Keep a version, whose artefacts are there; returns it as it is kept."""
        ...

    def fetch(self, version: VersionDetails, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """Give the content of one file, piece by piece. It is not checked."""
        ...

    def set_alias(self, target: Target, alias: str, *, why: str) -> str:
        """Let an alias stand for a version; returns the version that it stood for, or empty."""
        ...

    def remove_alias(self, name: str, alias: str, *, why: str) -> None:
        """Let an alias stand for nothing."""
        ...

    def audit(self, name: str) -> list[Change]:
        """Return who did what to a model, the newest last."""
        ...

    def collect(self, *, keep: int | None, is_dry: bool) -> Collected:
        """Remove artefacts that no version needs; with ``keep``, first the versions of each model
        that are older than its newest so many, unless an alias or a running worker names them.
        """
        ...


def pieces_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Give the content of a stream, piece by piece."""
    while piece := stream.read(PIECE_BYTES):
        yield piece
