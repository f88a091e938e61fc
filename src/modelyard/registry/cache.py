"""Versions that were fetched from the registry, each in a folder named for its digest.

A version is written beside its place and moved there when all of it is right. Who uses one holds a
lock; when the cache is full, those that were not used for the longest time go, never one in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modelyard.core.manifest import ManifestError
from modelyard.core.names import Target
from modelyard.core.references import Reference
from modelyard.core.versions import Contents, VersionDetails
from modelyard.folder import FolderError, content_of
from modelyard.registry.errors import RegistryError
from modelyard.registry.folders import (
    check_version,
    pull_version,
    read_contents,
    verify_folder,
)
from modelyard.registry.interface import Registry

_LOCK = ".lock"
_BEGUN = ".begun-"


class _Entry(NamedTuple):
    folder: Path
    size: int
    used: float


class Kept(NamedTuple):
    """A version as it was found here."""

    target: Target
    contents: Contents
    folder: Path


class ModelCache:
    """Versions on this machine.

    Args:
        folder: Where they are kept.
        max_bytes: What all of them may take.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    @contextlib.contextmanager
    def holding(self, registry: Registry, version: VersionDetails) -> Iterator[Path]:
        """Give the folder of a version, whole and checked; it stays as long as the block.

        Raises:
            RegistryError: The version is refused, or there is no room for it.
            RequestError: The registry does not give it.
        """
        check_version(version)
        place = self._folder / version.digest.partition(":")[2]
        try:
            place.mkdir(parents=True, exist_ok=True)
            with (place / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                model = place / version.name
                self._provide(registry, version, model)
                os.utime(place)
                yield model
        except OSError as error:
            raise RegistryError(f"{self._folder}: {error.strerror or error}") from error

    @contextlib.contextmanager
    def holding_kept(self, reference: Reference) -> Iterator[Kept | None]:
        """Give a version that is here already, read anew, without asking the registry. It stays as
        long as the block. None if its digest is not named, or what is here does not have it.

        Raises:
            RegistryError: The folder cannot be used.
        """
        place = self._folder / reference.digest.partition(":")[2]
        with contextlib.ExitStack() as stack:
            kept = None
            if reference.digest and (place / reference.name).is_dir():
                try:
                    lock = stack.enter_context((place / _LOCK).open("w"))
                    fcntl.flock(lock, fcntl.LOCK_SH)
                    os.utime(place)
                except OSError as error:
                    raise RegistryError(f"{place}: {error.strerror or error}") from error
                kept = _read_kept(place / reference.name, reference)
            yield kept

    def _provide(self, registry: Registry, version: VersionDetails, model: Path) -> None:
        """See that the version is there, and fetch it if it is not, or not as it should be."""
        if model.is_dir():
            try:
                verify_folder(model, version)
            except RegistryError:
                shutil.rmtree(model)
            else:
                return
        self._make_room(version)
        begun = Path(tempfile.mkdtemp(dir=model.parent, prefix=_BEGUN))
        try:
            pull_version(registry, version, begun / version.name)
            verify_folder(begun / version.name, version)
            with contextlib.suppress(FileExistsError):  # another process was as quick
                _move(begun / version.name, model)
        finally:
            shutil.rmtree(begun, ignore_errors=True)

    def _make_room(self, version: VersionDetails) -> None:
        if version.contents.size > self._max_bytes:
            raise RegistryError(
                f"{version.target} has {version.contents.size} bytes, and the cache takes "
                f"{self._max_bytes}: raise model_cache_mb"
            )
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        taken = version.contents.size + sum(entry.size for entry in entries)
        for entry in entries:
            if taken <= self._max_bytes:
                return
            if _remove_unused(entry.folder):
                taken -= entry.size
        if taken > self._max_bytes:
            raise RegistryError(
                f"there is no room for {version.target}: models in use take "
                f"{taken - version.contents.size} of {self._max_bytes} bytes; raise model_cache_mb"
            )

    def _entries(self) -> Iterator[_Entry]:
        for folder in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process removes it
                files = [path.stat() for path in folder.rglob("*")]
                size = sum(status.st_size for status in files)
                yield _Entry(folder, size, folder.stat().st_mtime)


def _read_kept(model: Path, reference: Reference) -> Kept | None:
    with contextlib.suppress(RegistryError, FolderError, ManifestError, OSError, ValueError):
        target, contents = read_contents(model)
        is_it = target == Target(reference.name, reference.version)
        is_whole = not any(path.is_symlink() for path in content_of(model))
        if is_it and is_whole and contents.digest == reference.digest:
            return Kept(target, contents, model)
    return None


def _move(begun: Path, model: Path) -> None:
    try:
        begun.rename(model)
    except OSError as error:
        if not model.is_dir():
            raise
        raise FileExistsError(model) from error


def _remove_unused(folder: Path) -> bool:
    """Remove an entry that nobody uses; returns whether it did."""
    with contextlib.suppress(OSError), (folder / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in folder.iterdir():
            if path.name != _LOCK:  # it stays: somebody may just wait for it
                shutil.rmtree(path)
        return True
    return False
