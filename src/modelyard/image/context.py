"""The folder that a builder gets."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from modelyard import __version__
from modelyard.core.manifest import Manifest
from modelyard.folder import NOT_CONTENT, digest_folder
from modelyard.image import ImageError
from modelyard.image.pins import lock_of, pins_of
from modelyard.image.wheel import pack_wheel

TEMPLATE = Path(__file__).with_name("Dockerfile.template")


class Context(NamedTuple):
    """A folder to build from; ``lock``: the lock file that was written for it, if it was."""

    folder: Path
    lock: Path | None


def image_of(manifest: Manifest) -> str:
    """Return the image's name without a tag, which is the one that the charts ask for."""
    return f"modelyard-model-{re.sub('[._]', '-', manifest.name)}"


def dockerfile_of(manifest: Manifest, *, base: str | None) -> str:
    """Return the text of the Dockerfile; ``base`` is an image with a Python like this one."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=manifest.name,
        image=image_of(manifest),
        version=manifest.version,
        modelyard=__version__,
        base=base or f"docker.io/library/python:{python}-slim-bookworm",
        wheel=f"modelyard-{_installed_version()}-py3-none-any.whl",
    )


def write_context(
    folder: Path, manifest: Manifest, *, into: Path, base: str | None, is_kept: bool
) -> Context:
    """Write the Dockerfile of the model in ``folder``, and all that it copies, into a folder.

    ``is_kept``: the folder stays, so that files are copied; else they, maybe gigabytes, are linked.

    Raises:
        FolderError: An artefact is not what ``model.toml`` says.
        ImageError: There is no lock file, and it cannot be written.
    """
    digest_folder(folder, manifest)
    installed = distribution("modelyard")
    dockerfile = dockerfile_of(manifest, base=base)
    pins = into / "pins.txt"
    pins.write_text("\n".join(pins_of(installed)) + "\n", encoding="utf-8")
    lock, is_new = lock_of(folder, constraints=pins)
    (into / "requirements.lock").write_bytes(lock.read_bytes() if lock else b"")
    pack_wheel(installed, into)
    shutil.copytree(
        folder, into / "model", ignore=_ignore, copy_function=shutil.copy2 if is_kept else _link
    )
    (into / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    return Context(into, lock if is_new else None)


def _installed_version() -> str:
    try:
        return distribution("modelyard").version
    except PackageNotFoundError as error:
        raise ImageError("Modelyard is not installed: `pip install` it, then build") from error


def _ignore(_: str, names: list[str]) -> set[str]:
    """Leave out what changes no answer: the digest leaves out the same."""
    return {name for name in names if name in NOT_CONTENT or name[0] == "."}


def _link(source: str, target: str) -> None:
    """Link a file; copy it where that cannot be."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
