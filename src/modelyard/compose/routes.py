"""Lets a gateway follow the routes in the store, or those of another gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelyard.compose.keeping import load, save
from modelyard.core.errors import RequestError
from modelyard.core.routes import Snapshot
from modelyard.registry.errors import RegistryError
from modelyard.settings import Settings, SettingsError
from modelyard.store.errors import StoreError

if TYPE_CHECKING:
    from modelyard.registry.remote import RemoteRegistry
    from modelyard.store.routes import RouteStore
    from modelyard.store.schema import Engine

REFRESH_S = 0.5
_LIBRARIES = ("sqlalchemy", "alembic")
_KEPT = "routes.json"
_AWAY = (StoreError, RegistryError, RequestError, OSError)

log = logging.getLogger(__name__)


def sticky_header_of(settings: Settings) -> str:
    """Return the header by which routes know a caller again, in lower case; empty for none.

    Raises:
        SettingsError: Requests that are read alike may differ in it.
    """
    name = settings.sticky_header
    if name:
        from modelyard.gateway.known import may_differ

        if may_differ(name):
            raise SettingsError(f"sticky_header: {name} tells requests apart, and not callers")
    return name.lower()


def name_of_store(settings: Settings) -> str:
    """Return what names the store for other gateways, whose user there may be another one; empty if
    there is none.
    """
    if not (settings.has_store and all(map(find_spec, _LIBRARIES))):
        return ""
    from modelyard.store.schema import place_of

    return place_of(settings.store_url)


class RouteReader(Protocol):
    """Where routes are."""

    def read(self, *, is_anew: bool) -> Snapshot | None:
        """Return them if they have changed since the last call, or ``is_anew``. Blocks.

        Raises:
            StoreError, RegistryError, RequestError, OSError: They cannot be read.
        """
        ...


class StoreRoutes:
    """The routes in the store, as soon as there is one. See ``RouteReader``.

    Args:
        settings: Say where the store is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._store: RouteStore | None = None

    def read(self, *, is_anew: bool) -> Snapshot | None:
        """See ``RouteReader``."""
        if self._store is None:
            settings = self._settings
            if not (settings.has_store and all(map(find_spec, _LIBRARIES))):
                return None
            from modelyard.store.routes import RouteStore
            from modelyard.store.schema import check_revision, open_engine

            if self._engine is None:  # one for all tries: each has connections of its own
                self._engine = open_engine(settings.store_url)
            check_revision(self._engine)
            self._store = RouteStore(self._engine, wall_clock=time.time)
        return self._store.read(is_anew=is_anew)


class RegistryRoutes:
    """The routes that another gateway follows. See ``RouteReader``."""

    def __init__(self, registry: RemoteRegistry) -> None:
        self._registry = registry
        self._number = -1

    def read(self, *, is_anew: bool) -> Snapshot | None:
        """See ``RouteReader``."""
        snapshot = self._registry.routes(after=-1 if is_anew else self._number)
        if snapshot is not None:
            self._number = snapshot.number
        return snapshot


class RouteFollower:
    """Reads snapshots of routes, and uses those that are new.

    While they cannot be read, those that another gateway tells are used, and at the start those
    that were kept in the folder for state, whichever are newer.

    Args:
        reader: Where they are.
        state: The folder for state.
        replace: Called with each snapshot.
        tell: Called with each that was read here and that no other gateway has told.
    """

    def __init__(
        self,
        reader: RouteReader,
        *,
        state: Path,
        replace: Callable[[Snapshot], None],
        tell: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self._reader = reader
        self._replace = replace
        self._tell = tell
        self._kept = state / _KEPT
        self._is_well: bool | None = None  # None: before the first reading
        self._number = self._told = -1  # of what is used, and of what another gateway follows
        self._is_borrowed = False
        self._hurried = asyncio.Event()

    async def start(self) -> None:
        """Read for the first time: before a request is answered."""
        if not await self._follow():
            snapshot = await asyncio.to_thread(load, self._kept, Snapshot)
            if snapshot is not None and snapshot.number > self._number:
                self._use(snapshot)

    def hear(self, snapshot: Snapshot) -> None:
        """Take notice of what another gateway follows: look at once, or where that cannot be, use
        it if it is newer.
        """
        self._told = snapshot.number
        if self._is_well:
            self._hurried.set()
        elif snapshot.number > self._number:
            self._is_borrowed = True
            self._use(snapshot)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._hurried.wait()
            self._hurried.clear()
            await self._follow()

    async def _follow(self) -> bool:
        """Read, and use what has changed; returns whether it could be read."""
        try:
            snapshot = await asyncio.to_thread(self._read)
        except _AWAY as error:
            if self._is_well is not False:
                log.error("routes_not_read", extra={"why": str(error)})
            self._is_well = False
            return False
        self._is_well, self._is_borrowed = True, False
        if snapshot is not None:
            self._use(snapshot)
            if snapshot.number != self._told:
                self._tell(snapshot)
        return True

    def _use(self, snapshot: Snapshot) -> None:
        self._number = snapshot.number
        self._replace(snapshot)
        fields = {"routes": len(snapshot.routes), "number": snapshot.number}
        log.info("routes_read", extra=fields)

    def _read(self) -> Snapshot | None:
        snapshot = self._reader.read(is_anew=self._is_borrowed)
        if snapshot is not None:
            save(self._kept, snapshot)
        return snapshot
