"""From the settings to the place of jobs' objects, and to what does errands there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from modelyard.jobs.bulk.interfaces import Place
from modelyard.jobs.bulk.places import FolderPlace
from modelyard.jobs.errands import Errands
from modelyard.settings import Settings, SettingsError


def job_place_of(settings: Settings, *, is_alone: bool) -> Place | None:
    """Return where the objects of jobs are; None if that is not said.

    Args:
        settings: Say it.
        is_alone: Whether no other process has to find them, so that the folder for state will do.

    Raises:
        SettingsError: There is nothing that reaches the URL.
    """
    in_state = is_alone and settings.store_url.startswith("sqlite")
    url = settings.job_files_url or place_beside(settings, "jobs", in_state=in_state)
    return place_at(url) if url else None


def place_beside(settings: Settings, name: str, *, in_state: bool) -> str:
    """Return where files are that have no place of their own: beside the artefacts, or ``in_state``
    in the folder for state; empty if neither is said.
    """
    if settings.artefacts_url:
        return f"{settings.artefacts_url.rstrip('/')}/{name}"
    return str(settings.state / name) if in_state else ""


def place_at(url: str) -> Place:
    """Return the place at a URL, or in a folder.

    Raises:
        SettingsError: There is nothing that reaches the URL.
    """
    if "://" not in url:
        return FolderPlace(Path(url).absolute())
    if find_spec("fsspec") is None:
        raise SettingsError(f"{url} needs fsspec: pip install 'modelyard[s3]', [gcs] or [azure]")
    from modelyard.jobs.bulk.remote import RemotePlace

    try:
        return RemotePlace(url)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def make_errands(settings: Settings, *, is_alone: bool) -> Errands | None:
    """Return what fetches inputs and puts results away; None if there is no place for them."""
    place = job_place_of(settings, is_alone=is_alone)
    return None if place is None else Errands(place)
