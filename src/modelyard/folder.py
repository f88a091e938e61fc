"""Model folders on disk: find them, read their manifest, digest and check what they hold.

A bare artefact, such as ``iris.onnx`` or a folder of MLflow, may stand in the place of a folder: it
is a model without a ``model.toml``, and its manifest is made from its name.

Used by whoever starts pools (manifest only) and by the runner (all of it).
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.core.artefacts import (
    HEAD_BYTES,
    MLMODEL,
    PICKLES,
    REFERENCE_FILE,
    SUFFIXES,
    ArtefactError,
    Runtime,
    check_head,
    name_of,
    runtime_of,
)
from modelyard.core.fingerprint import digest_stream, digest_tree
from modelyard.core.manifest import Manifest, ManifestError, parse_manifest
from modelyard.core.names import Target, is_name

MANIFEST = "model.toml"
NOT_CONTENT = {"__pycache__", "tests", "k8s", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


class FolderError(Exception):
    """A folder that is no model's and holds none, or an artefact that is not what it should be."""


class Unusable(NamedTuple):
    """A model folder whose manifest cannot be used.

    ``target``: what it is shown as: what the manifest says, where it says that much, else the
    folder's name and version 0; None if that is no name either.
    """

    folder: Path
    target: Target | None
    error: ManifestError


def find_models(folders: list[Path]) -> list[Path]:
    """Return the model folders among ``folders`` and one level below them, sorted within each.
    A bare artefact among them is a model itself.

    Raises:
        FolderError: A folder does not exist, or there is no model in it; or no runtime serves a
            file.
    """
    found: list[Path] = []
    for folder in folders:
        try:
            is_file, is_there = folder.is_file(), folder.is_dir()
        except OSError as error:  # as of a name that is too long
            raise FolderError(f"{folder}: {error.strerror}") from error
        if is_file or is_bare(folder):
            try:
                _manifest_of_bare(folder)
            except ArtefactError as error:
                raise FolderError(str(error)) from error
            found.append(folder)
            continue
        if not is_there:
            raise FolderError(f"{folder}: no such folder or file; `modelyard new` writes a model")
        if (folder / MANIFEST).is_file():
            found.append(folder)
            continue
        inside = sorted(child.parent for child in folder.glob(f"*/{MANIFEST}"))
        if not inside:
            raise FolderError(
                f"{folder}: no {MANIFEST} in it or one level below; `modelyard new` writes a model"
            )
        found.extend(inside)
    return list(dict.fromkeys(path.resolve() for path in found))


def read_manifests(
    folders: list[Path],
) -> tuple[list[tuple[Path, Manifest]], list[Unusable]]:
    """Return the models in ``folders`` and, beside them, those whose manifest cannot be used."""
    good: list[tuple[Path, Manifest]] = []
    bad: list[Unusable] = []
    for folder in folders:
        try:
            good.append((folder, read_manifest(folder)))
        except ManifestError as error:
            bad.append(Unusable(folder, _guess_target(folder), error))
    return good, bad


def set_aside_copies(
    models: list[tuple[Path, Manifest]], *, served: Mapping[Path, Target] | None = None
) -> tuple[list[tuple[Path, Manifest]], list[Unusable]]:
    """Return the models, and beside them those that have the name and version of another.

    Of several the first is kept. ``served``: what each folder is served as; one that is served goes
    before all others.
    """
    before = served or {}
    owners = {manifest.target: folder for folder, manifest in reversed(models)}
    owners |= {m.target: folder for folder, m in models if before.get(folder) == m.target}
    kept = [(folder, manifest) for folder, manifest in models if owners[manifest.target] == folder]
    taken, copies = set(owners), []
    for folder, manifest in models:
        if owners[manifest.target] == folder:
            continue
        other, target = _shown(owners[manifest.target]), _name_copy(folder, manifest, taken)
        text = f"{other} is {manifest.target} too; change the name or the version of one of them"
        copies.append(Unusable(folder, target, ManifestError(f"{_shown(folder)}: {text}")))
        if target is not None:
            taken.add(target)
    return kept, copies


def _name_copy(folder: Path, manifest: Manifest, taken: Collection[Target]) -> Target | None:
    """Return what a copy is shown as: its own name and version are another model's."""
    for name in (folder.name, f"{manifest.name}-copy"):
        target = Target(name, manifest.version)
        if is_name(name) and target not in taken:
            return target
    return None


def _guess_target(folder: Path) -> Target | None:
    try:
        table = tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        table = {}
    name, version = (str(table.get(key, "")) for key in ("name", "version"))
    if not is_name(name):
        name = folder.name
    if not is_name(version):
        version = "0"
    return Target(name, version) if is_name(name) else None


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the model in ``folder``.

    Raises:
        ManifestError: It cannot be read or used; the text names file and line.
    """
    if is_bare(folder):
        try:
            return _manifest_of_bare(folder)
        except ArtefactError as error:
            raise ManifestError(str(error)) from error
    path = folder / MANIFEST
    source = _shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{source}:1: cannot be read: {error}") from error
    return parse_manifest(text, source=source)


def is_bare(path: Path) -> bool:
    """Return whether this is an artefact without a model's folder around it."""
    return path.is_file() or ((path / MLMODEL).is_file() and not (path / MANIFEST).is_file())


def _manifest_of_bare(path: Path) -> Manifest:
    """Return the manifest of a bare artefact: it is called like the file, and is version 1.

    Raises:
        ArtefactError: No runtime serves it.
    """
    shown = _shown(path)
    runtime: Runtime = "mlflow"
    if path.is_file():
        runtime = runtime_of(shown)
        _check_head(path, runtime, shown=shown)
    return Manifest(name=name_of(path.resolve().name), version="1", runtime=runtime)


def find_artefact(folder: Path, manifest: Manifest) -> Path:
    """Return the artefact that the manifest's runtime serves: a file, or MLflow's folder. The
    digest of the model covers it.

    Raises:
        ArtefactError: There is none, there are several, or it is not what it should be.
    """
    if folder.is_file():
        return folder
    assert manifest.runtime is not None
    runtime, named = manifest.runtime, manifest.artefact
    inside = [path.relative_to(folder) for path in content_of(folder)]
    if runtime == "mlflow":
        found = [path.parent for path in inside if path.name == MLMODEL]
        kind = f"folder with a file {MLMODEL}"
    else:
        pickles = PICKLES if runtime == "sklearn" and manifest.allow_pickle else ()
        suffixes = SUFFIXES[runtime] + pickles
        found = [path for path in inside if path.suffix.lower() in suffixes]
        found = [path for path in found if path.parts[0] == "assets" or _is_beside(path)]
        kind = f"file {' or '.join(suffixes)}"
    if named:
        found = [path for path in (found if runtime == "mlflow" else inside) if path == Path(named)]
    shown = ", ".join(sorted(map(str, found)))
    if not found:
        what = f"{named} is missing" if named else f"there is no {kind} in assets/"
        raise ArtefactError(f"{what}; model.toml says runtime = {runtime!r}")
    if len(found) > 1:
        raise ArtefactError(f'several files could be it: {shown}; write artefact = "…"')
    path = folder / found[0]
    if path.is_file():
        _check_head(path, runtime, shown=shown)
    return path


def _is_beside(path: Path) -> bool:
    """Return whether a file is beside ``model.toml`` and may be what a runtime opens."""
    return len(path.parts) == 1 and not path.name.startswith(("requirements", REFERENCE_FILE))


def _check_head(path: Path, runtime: Runtime, *, shown: str) -> None:
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise ArtefactError(f"{shown} cannot be read: {error.strerror}") from error
    check_head(shown, runtime, head)


def _shown(path: Path) -> str:
    """Return a path as it is shown: relative or absolute, whichever is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) <= len(str(path)) else str(path)


Stamp = tuple[tuple[str, int, int], ...]


def stamp_folder(folder: Path) -> Stamp:
    """Return a value that changes when a file of the model does: paths, times of the last change
    and sizes. Reads no file.
    """
    found: list[tuple[str, int, int]] = []
    walked = [("", [], [str(folder)])] if folder.is_file() else os.walk(folder, followlinks=True)
    for parent, folders, files in walked:
        folders[:] = [name for name in folders if name not in NOT_CONTENT and name[0] != "."]
        for name in files:
            path = Path(parent, name)
            with contextlib.suppress(OSError):  # it has just gone
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))


def list_assets(folder: Path) -> list[str]:
    """Return the files in a model's ``assets/``, as ``[artefacts]`` would name them, sorted."""
    assets = folder / "assets"
    return sorted(path.relative_to(assets).as_posix() for path in content_of(assets))


def content_of(folder: Path) -> Iterator[Path]:
    """Give the files that may change an answer: all but tests, caches and hidden files."""
    if folder.is_file():
        yield folder
        return
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in NOT_CONTENT and name[0] != "."]
        yield from (Path(parent, name) for name in files if name[0] != ".")


def digest_folder(folder: Path, manifest: Manifest) -> str:
    """Digest the model folder and check its artefacts on the way.

    Left out are tests, caches and hidden files: they change no answer.

    Raises:
        FolderError: An artefact is missing, or differs from the digest in the manifest.
    """
    return digest_tree(digest_files(folder, manifest).items())


def digest_files(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Digest each file of a model folder, by its path there; see ``digest_folder``.

    Raises:
        FolderError: See ``digest_folder``.
    """
    actual: dict[str, str] = {}
    base = folder.parent if folder.is_file() else folder
    for path in content_of(folder):
        with path.open("rb") as stream:
            actual[path.relative_to(base).as_posix()] = digest_stream(stream)
    for name, expected in manifest.artefacts.items():
        found = actual.get(f"assets/{name}")
        if found is None:
            raise FolderError(_missing(name, actual))
        if found != expected:
            raise FolderError(
                f"assets/{name} is damaged: model.toml says {expected}, it is {found}"
            )
    return actual


def _missing(name: str, digests: dict[str, str]) -> str:
    """Return why an artefact is not among the files, of which ``digests`` has the paths."""
    inside = sorted(path for path in digests if path.startswith(f"assets/{name.rstrip('/')}/"))
    if not inside:
        return f"assets/{name} is missing; model.toml lists it under [artefacts]"
    first = inside[0].removeprefix("assets/")
    return (
        f"assets/{name} is a folder, and a digest is of a file: list its files under [artefacts], "
        f'each with its path, such as "{first}" = "{digests[inside[0]]}"'
    )
