"""Lets a gateway follow the routes in the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from modelyard.compose.keeping import load, save
from modelyard.core.routes import Snapshot
from modelyard.settings import Settings, SettingsError
from modelyard.store.errors import StoreError

if TYPE_CHECKING:
    from modelyard.store.routes import RouteStore
    from modelyard.store.schema import Engine

REFRESH_S = 0.5
_LIBRARIES = ("sqlalchemy", "alembic")
_KEPT = "routes.json"

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


class RouteFollower:
    """Reads snapshots of routes from the store, as soon as there is one.

    The last snapshot is kept in the folder for state, for a start while the database is away.

    Args:
        settings: Say where the store is.
        replace: Called with each snapshot.
    """

    def __init__(self, settings: Settings, replace: Callable[[Snapshot], None]) -> None:
        self._settings = settings
        self._replace = replace
        self._engine: Engine | None = None
        self._store: RouteStore | None = None
        self._kept = settings.state / _KEPT
        self._is_well = True

    async def start(self) -> None:
        """Read for the first time: before a request is answered."""
        if not await self._follow():
            snapshot = await asyncio.to_thread(load, self._kept, Snapshot)
            if snapshot is not None:
                self._use(snapshot)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            await self._follow()

    async def _follow(self) -> bool:
        """Read, and use what has changed; returns whether it could be read."""
        try:
            snapshot = await asyncio.to_thread(self._read)
        except (StoreError, OSError) as error:
            if self._is_well:
                log.error("routes_not_read", extra={"why": str(error)})
            self._is_well = False
            return False
        self._is_well = True
        if snapshot is not None:
            self._use(snapshot)
        return True

    def _use(self, snapshot: Snapshot) -> None:
        self._replace(snapshot)
        fields = {"routes": len(snapshot.routes), "number": snapshot.number}
        log.info("routes_read", extra=fields)

    def _read(self) -> Snapshot | None:
        """Return the snapshot if it has changed.

        Raises:
            StoreError: The database cannot be read.
        """
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
        snapshot = self._store.read()
        if snapshot is not None:
            save(self._kept, snapshot)
        return snapshot
