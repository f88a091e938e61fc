"""A model's ``requirements.txt`` and ``requirements.lock``: what they name, what is not installed
here, and what cannot live with Modelyard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modelyard.folder import FolderError

REQUIREMENTS = "requirements.txt"
LOCK = "requirements.lock"


def read_requirements(folder: Path) -> list[Requirement]:
    """Return what the model's ``requirements.txt`` names for this Python and system.

    Options, as ``-r other.txt``, are left to the installer.

    Raises:
        FolderError: A line is no requirement.
    """
    found = []
    for number, text in _lines(folder / REQUIREMENTS):
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            problem = str(error).splitlines()[0]
            raise FolderError(f"{REQUIREMENTS}:{number}: {text!r}: {problem}") from error
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def clashes_of_lock(folder: Path, packages: Collection[str]) -> list[str]:
    """Return a short description of each clash: one of ``packages``, which Modelyard's runner
    needs, that the model's lock file pins to an unsuitable version.

    Raises:
        PackageNotFoundError: Modelyard runs, and is not installed.
    """
    needed = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in map(Requirement, requires("modelyard") or ())
    }
    clashes = []
    for _, text in _lines(folder / LOCK):
        try:
            locked = Requirement(text)
        except InvalidRequirement:
            continue  # a path, say: the installer's to understand
        name = canonicalize_name(locked.name)
        pins = [one.version for one in locked.specifier if one.operator == "=="]
        if name in packages and pins and not needed[name].contains(pins[0], prereleases=True):
            clashes.append(f"{LOCK} pins {name} {pins[0]}, and Modelyard needs {needed[name]}")
    return clashes


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the requirements in a file, with their line numbers; options are left out."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines, start=1):
        text = line.partition(" #")[0].partition(" --")[0].strip()
        if text and not text.startswith(("#", "-")):
            yield number, text


def missing_from(requirements: list[Requirement]) -> list[str]:
    """Return a few words for each that is not installed here, or in another version."""
    missing = []
    for requirement in requirements:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(f"{requirement.name} is {installed}, not {requirement.specifier}")
    return missing
