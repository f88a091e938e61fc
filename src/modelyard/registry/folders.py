"""Model folders and the registry: pushed from there, pulled back, compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from modelyard.core.errors import ModelNotFound, RequestError, VersionNotFound
from modelyard.core.fingerprint import digest_stream
from modelyard.core.names import Target
from modelyard.core.references import Reference
from modelyard.core.versions import Artefact, Contents, VersionDetails, check_contents
from modelyard.folder import FolderError, content_of, digest_files, is_bare, read_manifest
from modelyard.registry.errors import RegistryError
from modelyard.registry.interface import Registry

SIGNATURE = ".signature"
"""The file of a folder that has its signature. It is hidden, so it is no part of what it signs."""

OnFile = Callable[[Artefact], None]


def read_contents(folder: Path) -> tuple[Target, Contents]:
    """Return what a model's folder would be in the registry, with the signature that it has.

    Raises:
        FolderError: An artefact is not what ``model.toml`` says, or there is none around it.
        ManifestError: ``model.toml`` cannot be used.
        RegistryError: There are files that a version may not have.
    """
    if is_bare(folder):
        raise FolderError(
            f"{folder}: a bare artefact has no version that could be signed or pushed: "
            "`modelyard new NAME --from FILE` writes a folder around it"
        )
    manifest = read_manifest(folder)
    files = tuple(
        Artefact(path, digest, (folder / path).stat().st_size)
        for path, digest in sorted(digest_files(folder, manifest).items())
    )
    signature = folder / SIGNATURE
    text = signature.read_text(encoding="utf-8") if signature.is_file() else ""
    runtime = manifest.runtime or "python"
    contents = Contents(files=files, signature=text, runtime=runtime)
    try:
        check_contents(contents)
    except RequestError as error:
        raise RegistryError(f"{folder}: {error.detail}") from error
    return manifest.target, contents


def find_version(registry: Registry, reference: Reference) -> VersionDetails:
    """Return the version that a reference means.

    Raises:
        RegistryError: It has another digest.
        RequestError: There is no such version.
    """
    version = registry.find(reference.name, reference.version)
    if reference.digest not in ("", version.digest):
        raise RegistryError(
            f"{version.target} is refused: it has {version.digest}, and was to have "
            f"{reference.digest}"
        )
    return version


def push_folder(
    registry: Registry, folder: Path, target: Target, contents: Contents, *, on_file: OnFile
) -> VersionDetails:
    """Send the artefacts that are not there yet, then the version.

    Args:
        registry: Where to.
        folder: The model's folder.
        target: What it becomes.
        contents: What was read from the folder.
        on_file: Called before a file is sent.

    Raises:
        RequestError: It is refused, or breaks off.
    """
    by_digest = {file.digest: file for file in contents.files}
    for digest in () if _is_another(registry, target, contents) else registry.missing(by_digest):
        file = by_digest[digest]
        on_file(file)
        with (folder / file.path).open("rb") as stream:
            registry.send(digest, file.size, stream)
    return registry.push(target, contents)


def _is_another(registry: Registry, target: Target, contents: Contents) -> bool:
    """Return whether the version is there with other files, so that it will be refused."""
    try:
        found = registry.find(target.name, target.version)
    except (ModelNotFound, VersionNotFound):
        return False
    return found.version == target.version and found.digest != contents.digest


def pull_version(registry: Registry, version: VersionDetails, into: Path) -> None:
    """Write a version's files into a folder, which is empty or not there. Nothing outside of it is
    touched, and each file is whole and what it should be.

    Raises:
        RegistryError: A file is damaged, or a path leaves the folder; names it.
        RequestError: The registry does not give it.
    """
    check_version(version)
    for file in version.contents.files:
        path = into / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _pull_file(registry, version, file, path)
        except OSError as error:
            raise RegistryError(f"{path}: {error.strerror or error}") from error
    if version.contents.signature:
        (into / SIGNATURE).write_text(version.contents.signature, encoding="utf-8")


def check_version(version: VersionDetails) -> None:
    """See that a version can be trusted to be what it says, before any of its files is read.

    Raises:
        RegistryError: It cannot; names the file.
    """
    try:
        check_contents(version.contents)
    except RequestError as error:
        raise RegistryError(f"{version.target} is refused: {error.detail}") from error
    if version.contents.digest != version.digest:
        raise RegistryError(
            f"{version.target} is refused: its files make {version.contents.digest}, and it is "
            f"listed as {version.digest}"
        )


def verify_folder(folder: Path, version: VersionDetails) -> None:
    """See that a folder holds a version, all of it and nothing else.

    Raises:
        RegistryError: It does not; names the file.
    """
    expected = {file.path: file.digest for file in version.contents.files}
    found = {path.relative_to(folder).as_posix(): path for path in content_of(folder)}
    if missing := sorted(expected.keys() - found.keys()):
        raise RegistryError(f"{version.target}: {missing[0]} is missing in {folder}")
    if more := sorted(found.keys() - expected.keys()):
        raise RegistryError(f"{version.target}: {folder} has {more[0]}, which is no part of it")
    for name, path in found.items():
        if path.is_symlink():
            raise RegistryError(f"{version.target}: {name} is a link")
        with path.open("rb") as stream:
            digest = digest_stream(stream)
        if digest != expected[name]:
            raise RegistryError(
                f"{version.target}: {name} is damaged: it should be {expected[name]}, "
                f"it is {digest}"
            )
    manifest = read_manifest(folder)
    if manifest.target != version.target:
        raise RegistryError(
            f"{version.target} is refused: its model.toml says that it is {manifest.target}"
        )


def verify_artefacts(registry: Registry, version: VersionDetails) -> None:
    """Read all artefacts of a version, and keep none.

    Raises:
        RegistryError: One is damaged; names it.
        RequestError: The registry does not give it.
    """
    check_version(version)
    for file in version.contents.files:
        _read_file(registry, version, file, lambda _: None)


def _pull_file(registry: Registry, version: VersionDetails, file: Artefact, path: Path) -> None:
    with path.open("xb") as stream:
        _read_file(registry, version, file, stream.write)
        stream.flush()
        os.fsync(stream.fileno())


def _read_file(
    registry: Registry, version: VersionDetails, file: Artefact, write: Callable[[bytes], object]
) -> None:
    """Read a file from the registry, at most as much as it should have."""
    hashed, size = hashlib.sha256(), 0
    with registry.fetch(version, file.path) as pieces:
        for piece in pieces:
            size += len(piece)
            if size > file.size:
                break
            hashed.update(piece)
            write(piece)
    found = f"sha256:{hashed.hexdigest()}"
    if size != file.size or found != file.digest:
        raise RegistryError(
            f"{version.target} is refused: {file.path} is damaged: it should be {file.digest}, "
            f"it is {found}"
        )
