"""Models that are named in the registry, fetched to this machine: ``NAME@VERSION``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelyard.compose.registry import open_registry, open_trust
from modelyard.core.references import Reference
from modelyard.core.versions import VersionDetails
from modelyard.registry.cache import ModelCache
from modelyard.registry.errors import RegistryError
from modelyard.registry.folders import find_version
from modelyard.settings import Settings
from modelyard.surroundings import read_surroundings


@contextlib.contextmanager
def fetched(
    settings: Settings, references: Iterable[Reference], *, actor: str
) -> Iterator[list[tuple[VersionDetails, Path]]]:
    """Give versions and their folders, which stay as long as the block. An alias is resolved here,
    once.

    Raises:
        RegistryError: A version is refused; says why.
        RequestError: It is not there.
        StoreError: The store cannot be used.
    """
    registry, trust = open_registry(settings, actor=actor), open_trust(settings)
    cache = ModelCache(_folder(settings), max_bytes=settings.model_cache_mb * 1_000_000)
    with contextlib.ExitStack() as stack:
        found = []
        for reference in references:
            version = find_version(registry, reference)
            if trust is not None:
                trust.check(version.target, version.contents)
            found.append((version, stack.enter_context(cache.holding(registry, version))))
        yield found


def _folder(settings: Settings) -> Path:
    if named := settings.model_cache_folder:
        return Path(named).expanduser().absolute()
    caches = read_surroundings().caches
    if caches is None:
        raise RegistryError("model_cache_folder has to say where fetched models are kept")
    return caches / "modelyard" / "models"
