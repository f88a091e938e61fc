"""A version in the registry: the files that it is made of, and where they come from.

A version never changes. Its digest is that of its files, the same as a worker announces for the
folder that it serves (``core/fingerprint.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelyard.core.errors import InvalidInput
from modelyard.core.fingerprint import digest_tree
from modelyard.core.manifest import Digest
from modelyard.core.names import Name, Target

MOST_FILES = 10_000
MOST_PATH_BYTES = 1024
MOST_NAME_BYTES = 255  # of one part of a path: what file systems take
MANIFEST_FILE = "model.toml"

Text = Annotated[str, Meta(max_length=500)]
Bytes = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Artefact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a version.

    Attributes:
        path: In the model's folder, with ``/``.
        digest: Of its content.
        size: In bytes.
    """

    path: str
    digest: Digest
    size: Bytes


class Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody pushes.

    Attributes:
        files: All of the model's folder that may change an answer.
        runtime: What runs it.
        schema: The schemas of instances and predictions, as ``GET /models/NAME`` shows them; none
            if whoever pushed did not load the model.
        commit: Of the source code that it comes from.
        run: Of the training that it comes from: an address, or a name.
        signature: Over the files, as ``model-signing`` writes it; empty for none.
    """

    files: tuple[Artefact, ...]
    runtime: Text = "python"
    schema: dict[str, Any] = {}
    commit: Text = ""
    run: Text = ""
    signature: str = ""

    @property
    def digest(self) -> str:
        """The digest of all files together."""
        return digest_tree((file.path, file.digest) for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


class VersionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One version in a list.

    Attributes:
        name: The model.
        version: The version.
        digest: See ``Contents.digest``.
        size: Bytes of all files together.
        pushed_at: Unix time, in seconds.
        pushed_by: Who pushed it.
        is_signed: Whether it has a signature; not whether anybody here trusts it.
        aliases: The names that stand for it.
    """

    name: Name
    version: Name
    digest: Digest
    size: Bytes
    pushed_at: float
    pushed_by: str
    is_signed: bool
    aliases: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        """The name and version together."""
        return Target(self.name, self.version)


class VersionDetails(VersionSummary, frozen=True, kw_only=True):
    """One version, with all that is known of it."""

    contents: Contents


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name that stands for a version, until it is given to another one."""

    alias: Name
    version: Name


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did, as the audit has it.

    Attributes:
        at: Unix time, in seconds.
        actor: Who.
        action: ``version pushed``, ``version removed``, ``alias set`` or ``alias removed``.
        what: The version, or ``ALIAS=VERSION``.
        was: What stood there before; empty for nothing.
        why: As it was given; may be empty.
    """

    at: float
    actor: str
    action: str
    what: str
    was: str = ""
    why: str = ""


def check_contents(contents: Contents) -> None:
    """See that the files can lie in one folder, and nowhere else.

    Raises:
        InvalidInput: They cannot; names the file.
    """
    files = contents.files
    if len(files) > MOST_FILES:
        raise InvalidInput(f"{len(files)} files are too many; a version has {MOST_FILES} at most")
    paths = {file.path for file in files}
    for file in files:
        check_path(file.path)
        if parent := next((p for p in _parents(file.path) if p in paths), None):
            raise InvalidInput(f"{parent!r} is a file, and a folder of {file.path!r}")
    if len(paths) < len(files):
        twice = next(path for path in paths if sum(f.path == path for f in files) > 1)
        raise InvalidInput(f"{twice!r} is listed twice")
    if MANIFEST_FILE not in paths:
        raise InvalidInput(f"there is no {MANIFEST_FILE} among the files")


def check_path(path: str) -> str:
    """Return a path that stays in the folder it is joined to.

    Raises:
        InvalidInput: It is another.
    """
    problem = _problem_of(path)
    if problem:
        raise InvalidInput(f"the path {path!r} {problem}")
    return path


def _problem_of(path: str) -> str:
    if not path.isprintable() or "\\" in path:
        return "has letters that no path here may have"
    if len(path.encode()) > MOST_PATH_BYTES:
        return f"is longer than {MOST_PATH_BYTES} bytes"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "is not relative to the model's folder, or leaves it"
        if part.startswith("."):
            return "is hidden; hidden files are no part of a version"
        if len(part.encode()) > MOST_NAME_BYTES:
            return f"has a part that is longer than {MOST_NAME_BYTES} bytes"
    return ""


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))
