"""A model's ``requirements.txt``: what it names, and what of that is not installed here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from modelyard.folder import FolderError

REQUIREMENTS = "requirements.txt"


def read_requirements(folder: Path) -> list[Requirement]:
    """Return what the model's ``requirements.txt`` names for this Python and system.

    Options, as ``-r other.txt``, are left to the installer.

    Raises:
        FolderError: A line is no requirement.
    """
    path = folder / REQUIREMENTS
    if not path.exists():
        return []
    found = []
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines, start=1):
        text = line.partition(" #")[0].partition(" --")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            problem = str(error).splitlines()[0]
            raise FolderError(f"{REQUIREMENTS}:{number}: {text!r}: {problem}") from error
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


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
