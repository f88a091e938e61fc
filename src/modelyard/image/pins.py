"""Versions for an image: Modelyard's own dependencies as installed here, and a model's lock."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modelyard.image import ImageError
from modelyard.requirements import LOCK, read_requirements


def pins_of(root: Distribution) -> list[str]:
    """Return ``name==version`` for all that ``root`` needs, and that needs, as installed here."""
    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        for text in waiting.pop().requires or ():
            needed = Requirement(text)
            name = canonicalize_name(needed.name)
            if name in found or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            try:
                installed = distribution(name)
            except PackageNotFoundError as error:
                raise ImageError(f"{name}, which Modelyard needs, is not installed") from error
            found[name] = installed.version
            waiting.append(installed)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def lock_of(folder: Path, *, constraints: Path) -> tuple[Path | None, bool]:
    """Return the model's ``requirements.lock``, and whether it was written just now, which it is if
    it was missing. None if the model needs no packages.

    Raises:
        ImageError: Nothing can write it, or the one that is there is of other requirements.
    """
    needed = read_requirements(folder)
    lock = folder / LOCK
    if not needed:
        return (lock if lock.exists() else None), False
    if not lock.exists():
        _write_lock(folder, constraints)
        return lock, True
    text = lock.read_text(encoding="utf-8")
    locked = {canonicalize_name(line.partition("==")[0]) for line in text.splitlines()}
    for requirement in needed:
        if canonicalize_name(requirement.name) not in locked and requirement.url is None:
            raise ImageError(
                f"{lock} has no {requirement.name}, which requirements.txt names; delete it, and "
                "`modelyard build` writes it anew"
            )
    return lock, False


def _write_lock(folder: Path, constraints: Path) -> None:
    """Pin what the model needs: with digests where uv is installed, else with pip."""
    requirements, lock = folder / "requirements.txt", folder / LOCK
    if uv := shutil.which("uv"):
        options = ("--universal", "--generate-hashes", "--no-header", "--quiet")
        quiet = ("--no-emit-index-url", "--no-emit-find-links", "--no-annotate")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        command = [uv, "pip", "compile", *options, *quiet, "--python-version", version]
        _run([*command, "-c", str(constraints), str(requirements), "-o", str(lock)])
        return
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    report = _run([*command, "--report", "-", "-c", str(constraints), "-r", str(requirements)])
    items = [item["metadata"] for item in json.loads(report)["install"]]
    pins = sorted(f"{canonicalize_name(item['name'])}=={item['version']}" for item in items)
    lock.write_text("\n".join(pins) + "\n", encoding="utf-8")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ImageError(f"{LOCK} is missing and cannot be written: {said}")
    return done.stdout
