"""``modelyard serve --reload``: folders that change, come or go are served as they are now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from modelyard.compose.models import Models
from modelyard.core.manifest import Manifest
from modelyard.folder import Stamp, Unusable, stamp_folder

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.3

Scan = Callable[[], tuple[list[tuple[Path, Manifest]], list[Unusable]]]
"""Gives the models that there are now, and the folders whose manifest cannot be used."""


class Reloader:
    """Compares folders with what is served, and puts what has changed.

    A change is taken up when nothing more has changed since the last look: files are written one
    after the other.

    Args:
        models: What is served.
        scan: Reads the folders' manifests.
    """

    def __init__(self, models: Models, scan: Scan) -> None:
        self._models = models
        self._scan = scan
        self._seen: dict[Path, Stamp] = {}  # at the last look
        self._served: dict[Path, Stamp] = {}
        self._busy: dict[Path, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        self._served = self._seen = await asyncio.to_thread(self._look_at, self._folders())
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                try:
                    await self._look(group)
                except Exception as error:  # as while a folder is being replaced
                    log.warning("reload_failed", extra={"reason": str(error)})

    def _folders(self) -> list[Path]:
        good, bad = self._scan()
        return [folder for folder, _ in good] + [one.folder for one in bad]

    def _look_at(self, folders: list[Path]) -> dict[Path, Stamp]:
        return {folder: stamp_folder(folder) for folder in folders}

    async def _look(self, group: asyncio.TaskGroup) -> None:
        good, bad = await asyncio.to_thread(self._scan)
        manifests: dict[Path, Manifest | None] = {one.folder: None for one in bad}
        manifests |= dict(good)
        stamps = await asyncio.to_thread(self._look_at, list(manifests))
        errors = {one.folder: str(one.error) for one in bad}
        gone = [f for f in self._served if f not in stamps and f not in self._seen]
        for folder, stamp in stamps.items():
            is_still = self._seen.get(folder) == stamp
            if is_still and stamp != self._served.get(folder) and folder not in self._busy:
                self._served[folder] = stamp
                work = self._put(folder, manifests[folder], errors.get(folder, ""))
                self._busy[folder] = group.create_task(work)
        for folder in gone:
            if folder not in self._busy:
                del self._served[folder]
                log.info("model_removed", extra={"folder": folder.name})
                await self._models.remove(folder)
        self._seen = stamps

    async def _put(self, folder: Path, manifest: Manifest | None, error: str) -> None:
        try:
            reason = error or (await self._models.put(folder, manifest) if manifest else "")
            if reason:
                log.warning("reload_failed", extra={"folder": folder.name, "reason": reason})
            else:
                log.info("reloaded", extra={"folder": folder.name})
        finally:
            del self._busy[folder]
