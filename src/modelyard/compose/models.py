"""The models of one process tree: each in a pool, and put in the place of one another.

A changed model is loaded beside the old one and takes over when it is ready, so no request is lost;
if it cannot be loaded the old one stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from modelyard.core.errors import NO_MODEL, ModelNotFound, ModelNotReady
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.messages import Announcement
from modelyard.core.names import Target
from modelyard.folder import read_manifest
from modelyard.pool.pool import Pool
from modelyard.transports.local import LocalTransport

log = logging.getLogger(__name__)

Announce = Callable[[Announcement], None]


class MakePool(Protocol):
    """Gives a pool that is not started."""

    def __call__(self, folder: Path, manifest: Manifest, announce: Announce) -> Pool: ...


class _Hosted:
    """A model folder as it was when it was put, and its pool."""

    def __init__(
        self, folder: Path, manifest: Manifest, make_pool: MakePool, announce: Announce
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.target = manifest.target
        self._announce = announce
        self._is_current = False
        self._said: Announcement | None = None
        self.pool = make_pool(folder, manifest, self._on_said)

    @property
    def reason(self) -> str:
        """Why it has failed, if it has."""
        failed = self._said is not None and self._said.state == "failed"
        return self._said.reason if failed and self._said else ""

    def show(self) -> None:
        """Let the catalog know of it from now on."""
        self._is_current = True
        if self._said is not None:
            self._announce(self._said)

    def hide(self) -> None:
        """Tell the catalog nothing more."""
        self._is_current = False

    def _on_said(self, announcement: Announcement) -> None:
        self._said = announcement
        if self._is_current:
            self._announce(announcement)


class Models:
    """All models that are served.

    Args:
        make_pool: Returns a pool for a folder.
        transport: Requests reach the pools by it.
        announce: Called with what the catalog should know.
        forget: Called with a target that is served no longer.
    """

    def __init__(
        self,
        *,
        make_pool: MakePool,
        transport: LocalTransport,
        announce: Announce,
        forget: Callable[[Target], None],
    ) -> None:
        self._make_pool = make_pool
        self._transport = transport
        self._announce = announce
        self._forget = forget
        self._hosted: dict[Path, _Hosted] = {}
        self._unloaded: dict[Path, Manifest] = {}  # by hand
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self, models: list[tuple[Path, Manifest]]) -> None:
        """Serve these models; each is shown while it loads."""
        for folder, manifest in models:
            hosted = _Hosted(folder, manifest, self._make_pool, self._announce)
            hosted.show()
            await hosted.pool.__aenter__()
            self._transport.connect(hosted.target, hosted.pool.submit)
            self._hosted[folder] = hosted

    async def settled(self) -> None:
        """Wait until each first load has ended, well or not."""
        await asyncio.gather(*(hosted.pool.settled() for hosted in self._hosted.values()))

    async def stop(self) -> None:
        """End all of them."""
        pools = [hosted.pool for hosted in self._hosted.values()]
        for pool in pools:  # all at once; each is then waited for
            pool.stop()
        for pool in pools:
            await pool.__aexit__(None, None, None)
        for task in list(self._leaving):
            task.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def put(self, folder: Path, manifest: Manifest) -> str:
        """Serve a folder as it is now, in place of what was served from it.

        Returns why that failed, or "". What was served before stays if it was any better.
        """
        other = next((f for f, h in self._hosted.items() if h.target == manifest.target), folder)
        if other != folder:
            return f"{other} is {manifest.target} too; change one version"
        new = _Hosted(folder, manifest, self._make_pool, self._announce)
        old = self._hosted.get(folder)
        is_better_than_nothing = old is None or bool(old.reason)
        if is_better_than_nothing:
            self._replace(old, new)
        await new.pool.__aenter__()
        await new.pool.settled()
        reason = new.reason
        if reason and not is_better_than_nothing:
            await new.pool.__aexit__(None, None, None)
        elif not is_better_than_nothing:
            self._replace(old, new)
        return reason

    async def remove(self, folder: Path) -> None:
        """Serve a folder no longer."""
        hosted = self._hosted.pop(folder, None)
        if hosted is not None:
            self._drop(hosted)
            await self._leave(hosted)

    async def load(self, name: str) -> None:
        """Load a model by hand, all its versions, from their folders as they are now.

        Raises:
            ModelNotFound: No folder of this name was ever served.
            ModelNotReady: A version cannot be loaded; what was served of it before still is.
        """
        folders = {f: h.manifest for f, h in self._hosted.items()} | self._unloaded
        chosen = [folder for folder, manifest in folders.items() if manifest.name == name]
        if not chosen:
            raise ModelNotFound(NO_MODEL)
        for folder in chosen:
            try:
                reason = await self.put(folder, read_manifest(folder))
            except ManifestError as error:
                reason = str(error)
            if reason:
                raise ModelNotReady(f"{folder.name} cannot be loaded: {reason}")

    async def unload(self, name: str) -> None:
        """Unload a model by hand, all its versions, until it is loaded again.

        Raises:
            ModelNotFound: No model of this name is served.
        """
        chosen = {f: h for f, h in self._hosted.items() if h.manifest.name == name}
        if not chosen:
            raise ModelNotFound("no model of this name is loaded; GET /models lists those that are")
        for folder, hosted in chosen.items():
            self._unloaded[folder] = hosted.manifest
            await self.remove(folder)

    def _replace(self, old: _Hosted | None, new: _Hosted) -> None:
        self._hosted[new.folder] = new
        self._unloaded.pop(new.folder, None)
        self._transport.connect(new.target, new.pool.submit)
        if old is not None:
            old.hide()
            if old.target != new.target:
                self._drop(old)
            task = asyncio.create_task(self._leave(old))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        new.show()

    def _drop(self, hosted: _Hosted) -> None:
        hosted.hide()
        self._transport.disconnect(hosted.target)
        self._forget(hosted.target)

    async def _leave(self, hosted: _Hosted) -> None:
        """End a pool that gets no more requests, once it has answered those that it has."""
        try:
            await hosted.pool.drained()
        finally:
            await hosted.pool.__aexit__(None, None, None)
