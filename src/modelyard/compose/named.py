"""``modelyard serve --registry``: the versions that routes and aliases name, fetched and served.

A version that is named is loaded before it gets a request: its route leaves it out until then. One
that nothing names any longer stays for a while, so that a rollback need not load it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from modelyard.compose.fetching import fetched
from modelyard.compose.keeping import load, save
from modelyard.compose.models import Models
from modelyard.core.clock import Clock, WallClock
from modelyard.core.errors import RequestError
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.names import Target
from modelyard.core.references import Reference
from modelyard.core.routes import Snapshot
from modelyard.folder import Unusable, read_manifest
from modelyard.registry.errors import RegistryError
from modelyard.settings import Settings
from modelyard.store.errors import StoreError

LOOK_EVERY_S = 0.2
TRY_AGAIN_S = 5.0
_KEPT = "named.json"
_REFUSALS = (RegistryError, RequestError, StoreError, ManifestError)

log = logging.getLogger(__name__)


class _Digests(msgspec.Struct):
    digests: dict[str, str]


class NamedModels:
    """Serves the versions that a snapshot names, and no others for long.

    Args:
        settings: Say where the registry is, and where versions are kept.
        models: What is served. What folders hold stays as it is.
        snapshot: Returns the routes that are followed now.
        actor: Who fetches.
        clock: For how long nothing has named a version.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        *,
        snapshot: Callable[[], Snapshot],
        actor: str,
        clock: Clock,
        wall_clock: WallClock,
    ) -> None:
        self._is_begun = asyncio.Event()
        self._settings = settings
        self._models = models
        self._snapshot = snapshot
        self._actor = actor
        self._clock = clock
        self._wall_clock = wall_clock
        self._held: dict[Target, contextlib.ExitStack] = {}  # what keeps a folder in the cache
        self._folders: dict[Target, Path] = {}  # where versions are, also those that went
        self._refused: dict[Target, str] = {}  # why
        self._again: dict[Target, float] = {}  # when those are fetched anew
        self._named_at: dict[Target, float] = {}  # when something last named a version
        self._busy: set[Target] = set()
        self._kept = settings.state / _KEPT
        self._digests: dict[str, str] = {}  # of versions, which never change: NAME/VERSION

    async def run(self) -> None:
        """Follow until cancelled."""
        kept = await asyncio.to_thread(load, self._kept, _Digests)
        self._digests = kept.digests if kept is not None else {}
        self._is_begun.set()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._look(group)
                    await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for hold in self._held.values():
                hold.close()

    async def settled(self) -> None:
        """Wait until all that is named has loaded or failed."""
        await self._is_begun.wait()
        while self._busy or self._lacking():  # noqa: ASYNC110 (it is looked at rarely)
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self, group: asyncio.TaskGroup) -> None:
        now, named = self._clock(), self._named()
        self._named_at |= dict.fromkeys(named, now)
        for target in self._folders.keys() & self._models.targets():
            self._named_at.setdefault(target, now)  # one that went was loaded by hand
        for target in self._lacking():
            self._begin(group, target, self._take_up(target))
        for target, at in list(self._named_at.items()):
            is_due = now - at >= self._settings.unload_after_s
            if is_due and target not in self._busy and not self._is_needed(target, named):
                self._begin(group, target, self._leave(target))

    def _named(self) -> set[Target]:
        return self._snapshot().named(now=self._wall_clock())

    def _lacking(self) -> set[Target]:
        """Return what is to be fetched now. What was unloaded by hand stays so."""
        now, here = self._clock(), self._models.targets() | self._busy | self._held.keys()
        return {one for one in self._named() - here if self._again.get(one, now) <= now}

    def _is_needed(self, target: Target, named: set[Target]) -> bool:
        """Return whether a version that nothing names answers for one that is not up yet."""
        others = {one for one in named if one.name == target.name}
        return bool(others - self._models.up())

    def _begin(
        self, group: asyncio.TaskGroup, target: Target, work: Coroutine[Any, Any, None]
    ) -> None:
        self._busy.add(target)
        task = group.create_task(work)
        task.add_done_callback(lambda _: self._busy.discard(target))

    async def _take_up(self, target: Target) -> None:
        hold = contextlib.ExitStack()
        try:
            folder, manifest = await asyncio.to_thread(self._fetch, target, hold)
        except Exception as error:  # whatever it is, other versions are served
            hold.close()
            if not isinstance(error, _REFUSALS):
                log.exception("unexpected_error", extra={"model": str(target)})
            self._refuse(target, str(error) or repr(error))
            return
        self._refused.pop(target, None)
        self._held[target], self._folders[target] = hold, folder
        refusal = await self._models.put(folder, manifest)
        if refusal is None:
            log.info("version_loaded", extra={"model": str(target)})
        else:
            log.warning("version_not_loaded", extra={"model": str(target), "why": refusal.logged})

    def _fetch(self, target: Target, hold: contextlib.ExitStack) -> tuple[Path, Manifest]:
        digest = self._digests.get(str(target), "")  # what is here is used without the registry
        reference = Reference(target.name, target.version, digest)
        (found,) = hold.enter_context(fetched(self._settings, [reference], actor=self._actor))
        if found.digest != digest:
            self._digests[str(target)] = found.digest
            save(self._kept, _Digests(dict(self._digests)))
        return found.folder, read_manifest(found.folder)

    def _refuse(self, target: Target, why: str) -> None:
        """Show a version as failed; it is tried again in a while."""
        self._again[target] = self._clock() + TRY_AGAIN_S
        if self._refused.get(target) == why:
            return
        self._refused[target] = why
        log.error("version_not_fetched", extra={"model": str(target), "why": why})
        self._models.refuse(Unusable(_shown_as(target), target, ManifestError(why)))

    async def _leave(self, target: Target) -> None:
        del self._named_at[target]
        self._again.pop(target, None)
        if self._refused.pop(target, None) is not None:
            await self._models.remove(_shown_as(target))
        if target in self._folders:
            await self._models.remove(self._folders[target])
            log.info("version_unloaded", extra={"model": str(target)})
        if (hold := self._held.pop(target, None)) is not None:
            hold.close()


def _shown_as(target: Target) -> Path:
    """Return what stands in place of a folder for a version that has none here."""
    return Path(f"{target.name}@{target.version}")
