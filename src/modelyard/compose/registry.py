"""From the settings to the registry, and to its routes."""

from __future__ import annotations

import logging
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from modelyard.compose.routes import RegistryRoutes, RouteReader
from modelyard.core.names import Target
from modelyard.registry.errors import RegistryError
from modelyard.settings import Settings, SettingsError
from modelyard.store.errors import StoreError
from modelyard.surroundings import read_api_key

if TYPE_CHECKING:
    from modelyard.dispatch.catalog import Catalog
    from modelyard.gateway.registry_pages import Routes
    from modelyard.registry.interface import Registry
    from modelyard.registry.kept import KeptRegistry
    from modelyard.registry.signatures import Trust

STORE = "store"
_LIBRARIES = ("sqlalchemy", "alembic", "fsspec")

log = logging.getLogger(__name__)


def open_kept(
    settings: Settings, *, actor: str, makes: bool = False, waits: bool = False
) -> KeptRegistry:
    """Return the registry on the store.

    Args:
        settings: Say where store and artefacts are.
        actor: Who changes something.
        makes: Whether SQLite is made if it is not there yet.
        waits: Whether the store may be away, and come back later.

    Raises:
        StoreError: The store cannot be used.
        RegistryError: Libraries are missing, or it is not said where artefacts lie.
    """
    if not all(map(find_spec, _LIBRARIES)):
        raise RegistryError(
            "the registry needs libraries that are not here: pip install 'modelyard[registry]'"
        )
    artefacts = artefacts_of(settings)
    if not artefacts:
        raise RegistryError("artefacts_url has to say where the registry keeps artefacts")
    from modelyard.registry.blobs import Blobs
    from modelyard.registry.kept import KeptRegistry
    from modelyard.store import schema
    from modelyard.store.versions import VersionStore

    engine = schema.open_engine(settings.store_url)
    if makes:
        schema.make_if_missing(engine)
    schema.check_revision(engine, may_be_away=waits)
    return KeptRegistry(
        VersionStore(engine, wall_clock=time.time),
        Blobs(artefacts),
        actor=actor,
        wall_clock=time.time,
    )


def open_served(settings: Settings) -> KeptRegistry | None:
    """Return the registry that a gateway serves; None if there is none, or it cannot be used."""
    if not (settings.has_store and artefacts_of(settings) and all(map(find_spec, _LIBRARIES))):
        return None
    try:
        return open_kept(settings, actor="gateway", waits=True)
    except (StoreError, RegistryError) as error:
        log.warning("registry_not_served", extra={"why": str(error)})
        return None


def open_trust(settings: Settings) -> Trust | None:
    """Return who has to have signed what is loaded; None if it need not be signed.

    Raises:
        SettingsError: A key cannot be read, or the library is missing.
    """
    keys = [Path(key) for key in _parts_of(settings.trusted_keys)]
    pairs = [pair.partition("=") for pair in _parts_of(settings.trusted_identities)]
    if not (keys or pairs):
        return None
    from modelyard.registry.signatures import Identity, Trust

    try:
        return Trust(keys, [Identity(name.strip(), issuer.strip()) for name, _, issuer in pairs])
    except RegistryError as error:
        raise SettingsError(str(error)) from error


def open_registry(
    settings: Settings, *, actor: str, url: str = "", makes: bool = False
) -> Registry:
    """Return the registry that a command or worker uses: a gateway's, or that on the store.

    Raises:
        StoreError: The store cannot be used.
        RegistryError: The registry cannot be.
    """
    if url or settings.registry_url:
        from modelyard.registry.remote import RemoteRegistry

        return RemoteRegistry(url or settings.registry_url, key=read_api_key())
    return open_kept(settings, actor=actor, makes=makes)


def make_routes(
    registry: KeptRegistry | None, catalog: Catalog, *, settings: Settings, may_change: bool
) -> Routes | None:
    """Return the registry's pages; None if there is none. What workers run, or settings or routes
    name, is in use.
    """
    if registry is None:
        return None
    from modelyard.gateway.registry_pages import make_registry_router

    def in_use() -> set[Target]:
        found = {entry.target for entry in catalog.entries()}
        found |= {Target(name, v) for name, v in settings.versions_by_default.items()}
        return found | catalog.router.snapshot.named(now=time.time())

    return make_registry_router(
        registry.knowing(in_use),
        snapshot=lambda: catalog.router.snapshot,
        most_bytes=settings.max_artefact_mb * 1_000_000,
        may_change=may_change,
    )


class NamedIn(NamedTuple):
    """The registry whose routes are followed, and whose versions that they name are served.

    Attributes:
        settings: Say where it is.
        routes: Its routes; None for those of the store.
        actor: Who fetches.
    """

    settings: Settings
    routes: RouteReader | None
    actor: str


def follow_registry(settings: Settings, place: str, *, actor: str) -> NamedIn:
    """Return the registry at a place: a gateway's URL, or ``store`` for that of the settings.

    Raises:
        RegistryError: The place is neither.
    """
    if place == STORE:
        return NamedIn(msgspec.structs.replace(settings, registry_url=""), None, actor)
    from modelyard.registry.remote import RemoteRegistry

    routes = RegistryRoutes(RemoteRegistry(place, key=read_api_key()))
    return NamedIn(msgspec.structs.replace(settings, registry_url=place), routes, actor)


def artefacts_of(settings: Settings) -> str:
    """Return ``artefacts_url``, or a folder beside SQLite; empty if the store is another one."""
    is_sqlite = settings.store_url.startswith("sqlite")
    if settings.artefacts_url or not is_sqlite:
        return settings.artefacts_url
    return str(settings.state / "artefacts")


def _parts_of(text: str) -> list[str]:
    return [part for piece in text.split(",") if (part := piece.strip())]
