"""``modelyard serve --reload``: folders that change, come or go are served as they are now."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from modelyard.compose.models import Models
from modelyard.core.manifest import Manifest
from modelyard.folder import Stamp, Unusable, stamp_folder

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.3


class _Seen(NamedTuple):
    """A folder at one look; ``problem``: why it cannot be served, or empty."""

    stamp: Stamp
    problem: str


class Reloader:
    """Compares folders with what is served, and puts what has changed.

    A change is taken up when nothing more has changed since the last look: files are written one
    after the other.

    Args:
        models: What is served.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._seen: dict[Path, _Seen] = {}  # at the last look
        self._served: dict[Path, _Seen] = {}
        self._busy: dict[Path, asyncio.Task[None]] = {}
        self._problem = ""  # of the last look

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        good, bad = await self._models.look()
        self._served = self._seen = await asyncio.to_thread(_see, dict(good), _by_folder(bad))
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                problem = ""
                try:
                    await self._look(group)
                except Exception as error:  # as while a folder is being replaced
                    problem = str(error) or repr(error)
                if problem and problem != self._problem:
                    log.warning("reload_failed", extra={"reason": problem})
                self._problem = problem

    async def _look(self, group: asyncio.TaskGroup) -> None:
        good, bad = await self._models.look()
        manifests, unusable = dict(good), _by_folder(bad)
        seen = await asyncio.to_thread(_see, manifests, unusable)
        gone = [f for f in self._served if f not in seen and f not in self._seen]
        for folder, now in seen.items():
            is_still = self._seen.get(folder) == now
            if is_still and now != self._served.get(folder) and folder not in self._busy:
                self._served[folder] = now
                work = self._put(folder, manifests.get(folder), unusable.get(folder))
                self._busy[folder] = group.create_task(work)
        for folder in gone:
            if folder not in self._busy:
                del self._served[folder]
                log.info("model_removed", extra={"folder": folder.name})
                await self._models.remove(folder)
        self._seen = seen

    async def _put(
        self, folder: Path, manifest: Manifest | None, unusable: Unusable | None
    ) -> None:
        reason = ""
        try:
            if unusable is not None:
                self._models.refuse(unusable)
                reason = str(unusable.error)
            elif manifest is not None and (refusal := await self._models.put(folder, manifest)):
                reason = refusal.logged
            if reason:
                log.warning("reload_failed", extra={"folder": folder.name, "reason": reason})
            else:
                log.info("reloaded", extra={"folder": folder.name})
        finally:
            del self._busy[folder]


def _by_folder(unusable: list[Unusable]) -> dict[Path, Unusable]:
    return {one.folder: one for one in unusable}


def _see(manifests: dict[Path, Manifest], unusable: dict[Path, Unusable]) -> dict[Path, _Seen]:
    """Read nothing but names, sizes and times."""
    problems = dict.fromkeys(manifests, "") | {f: str(one.error) for f, one in unusable.items()}
    return {folder: _Seen(stamp_folder(folder), problem) for folder, problem in problems.items()}
