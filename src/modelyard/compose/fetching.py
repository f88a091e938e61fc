"""Models that are named in the registry, fetched to this machine: ``NAME@VERSION``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from modelyard.compose.registry import open_registry, open_trust
from modelyard.core.names import Target
from modelyard.core.references import Reference
from modelyard.registry.cache import ModelCache
from modelyard.registry.errors import RegistryError
from modelyard.registry.folders import find_version
from modelyard.registry.interface import Registry
from modelyard.settings import Settings
from modelyard.surroundings import read_surroundings


class Fetched(NamedTuple):
    """A version, and the folder where it is."""

    target: Target
    digest: str
    folder: Path


@contextlib.contextmanager
def fetched(
    settings: Settings, references: Iterable[Reference], *, actor: str
) -> Iterator[list[Fetched]]:
    """Give versions and their folders, which stay as long as the block. An alias is resolved here,
    once. The registry is not asked for a version that is here and named with its digest.

    Raises:
        RegistryError: A version is refused; says why.
        RequestError: It is not there.
        StoreError: The store cannot be used.
    """
    trust = open_trust(settings)
    registry: Callable[[], Registry] = cache(partial(open_registry, settings, actor=actor))
    models = ModelCache(_folder(settings), max_bytes=settings.model_cache_mb * 1_000_000)
    with contextlib.ExitStack() as stack:
        found = []
        for reference in references:
            kept = stack.enter_context(models.holding_kept(reference))
            if kept is not None:
                target, contents, folder = kept
                if trust is not None:
                    trust.check(target, contents)
            else:
                version = find_version(registry(), reference)
                target, contents = version.target, version.contents
                if trust is not None:
                    trust.check(target, contents)
                folder = stack.enter_context(models.holding(registry(), version))
            found.append(Fetched(target, contents.digest, folder))
        yield found


def _folder(settings: Settings) -> Path:
    if named := settings.model_cache_folder:
        return Path(named).expanduser().absolute()
    caches = read_surroundings().caches
    if caches is None:
        raise RegistryError("model_cache_folder has to say where fetched models are kept")
    return caches / "modelyard" / "models"
