"""The models of one process tree: each in a pool, and put in the place of one another.

A changed model is loaded beside the old one and takes over when it is ready, so no request is lost;
if it cannot be loaded the old one stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from modelyard.compose.circles import set_aside_circles
from modelyard.compose.hosted import Announce, Hosted, MakePool, Refusal, failed
from modelyard.core.errors import NO_MODEL, ModelNotFound, ModelNotReady
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.names import Target
from modelyard.folder import Unusable, read_manifest, set_aside_copies
from modelyard.transports.local import LocalTransport

log = logging.getLogger(__name__)

Scan = Callable[[], tuple[list[tuple[Path, Manifest]], list[Unusable]]]
"""Returns the models that there are now, and the folders whose manifest cannot be used."""


class Models:
    """All models that are served.

    Args:
        make_pool: Returns a pool for a folder.
        transport: Requests reach the pools by it.
        announce: Called with what the catalog should know.
        forget: Called with a target that is served no longer.
        scan: Reads the folders again.
    """

    def __init__(
        self,
        *,
        make_pool: MakePool,
        transport: LocalTransport,
        announce: Announce,
        forget: Callable[[Target], None],
        scan: Scan,
    ) -> None:
        self._make_pool = make_pool
        self._transport = transport
        self._announce = announce
        self._forget = forget
        self._scan = scan
        self._hosted: dict[Path, Hosted] = {}
        self._unloaded: dict[Path, Manifest] = {}  # by hand
        self._refused: dict[Path, Target] = {}  # what each is shown as
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(
        self, models: list[tuple[Path, Manifest]], unusable: Sequence[Unusable] = ()
    ) -> None:
        """Serve these models; each is shown while it loads. What is unusable is shown as failed."""
        for folder, manifest in models:
            hosted = Hosted(folder, manifest, self._make_pool, self._announce)
            hosted.show()
            await hosted.pool.__aenter__()
            self._transport.connect(hosted.target, hosted.pool.submit)
            self._hosted[folder] = hosted
        for one in unusable:
            self.refuse(one)

    def targets(self) -> set[Target]:
        """Return what is served, or is loading."""
        return {hosted.target for hosted in self._hosted.values()}

    def folder_of(self, target: Target) -> Path | None:
        """Return the folder that a target is served from; None if it is not served."""
        return next((f for f, h in [*self._hosted.items()] if h.target == target), None)

    def up(self) -> set[Target]:
        """Return what takes requests now."""
        return {hosted.target for hosted in self._hosted.values() if hosted.is_up}

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

    def keep_warm(self, is_warm: Callable[[Target], bool]) -> None:
        """Let models keep their runners though nobody asks, and others no longer."""
        for hosted in self._hosted.values():
            hosted.pool.keep_warm(is_warm=is_warm(hosted.target))

    async def look(self) -> tuple[list[tuple[Path, Manifest]], list[Unusable]]:
        """Read the folders again; return what can be served of them, and what cannot."""
        found, unusable = await asyncio.to_thread(self._scan)
        served = {folder: hosted.target for folder, hosted in self._hosted.items()}
        models, copies = set_aside_copies(found, served=served)
        models, circling = set_aside_circles(models)
        return models, [*unusable, *copies, *circling]

    async def put(self, folder: Path, manifest: Manifest) -> Refusal | None:
        """Serve a folder as it is now, in place of what was served from it.

        Returns why that failed, or None. What was served before stays if it was any better.
        """
        other = next((f for f, h in self._hosted.items() if h.target == manifest.target), folder)
        if other != folder:
            text = f"{other} is {manifest.target} too; change the name or the version of one"
            return Refusal(text, text)
        new = Hosted(folder, manifest, self._make_pool, self._announce)
        old = self._hosted.get(folder)
        if old is None or old.failure:  # anything is better
            self._replace(old, new)
            await new.pool.__aenter__()
            await new.pool.settled()
            return new.failure
        await new.pool.__aenter__()
        await new.pool.settled()
        if (failure := new.failure) is not None:
            await new.pool.__aexit__(None, None, None)
            old.outlive(failure.told)
        else:
            self._replace(old, new)
        return failure

    def refuse(self, unusable: Unusable) -> None:
        """Show that a folder cannot be served as it is now. What it was served as before stays."""
        folder, target, error = unusable
        if (hosted := self._hosted.get(folder)) is not None:
            hosted.outlive(str(error))
            return
        self._clear(folder)
        others = {hosted.target for hosted in self._hosted.values()} | set(self._refused.values())
        if target is None or target in others:  # there is no name to show it under
            log.warning("model_refused", extra={"folder": folder.name, "reason": str(error)})
            return
        self._refused[folder] = target
        self._announce(failed(target, str(error)))

    async def remove(self, folder: Path) -> None:
        """Serve a folder no longer."""
        self._clear(folder)
        self._unloaded.pop(folder, None)
        hosted = self._hosted.pop(folder, None)
        if hosted is not None:
            self._drop(hosted)
            await self._leave(hosted)

    async def load(self, name: str) -> None:
        """Load a model by hand, all its versions, from their folders as they are now.

        Raises:
            ModelNotFound: No folder holds or held a model of this name.
            ModelNotReady: A version cannot be loaded; what was served of it before still is.
        """
        models, unusable = await self.look()
        here, wrong = dict(models), {one.folder: one for one in unusable}
        names = [(folder, hosted.target.name) for folder, hosted in self._hosted.items()]
        names += [(folder, manifest.name) for folder, manifest in self._unloaded.items()]
        names += [(folder, target.name) for folder, target in self._refused.items()]
        names += [(folder, manifest.name) for folder, manifest in models]
        names += [(one.folder, one.target.name) for one in unusable if one.target]
        chosen = dict.fromkeys(folder for folder, its_name in names if its_name == name)
        if not chosen:
            raise ModelNotFound(NO_MODEL)
        for folder in chosen:
            refusal = await self._load(folder, here.get(folder), wrong.get(folder))
            if refusal is not None:
                fields = {"folder": folder.name, "reason": refusal.logged}
                log.warning("load_by_hand_failed", extra=fields)
                raise ModelNotReady(f"{folder.name} cannot be loaded: {refusal.told}")
            log.info("loaded_by_hand", extra={"folder": folder.name, "model": name})

    async def unload(self, name: str) -> None:
        """Unload a model by hand, all its versions, until it is loaded again.

        Raises:
            ModelNotFound: No model of this name is served.
        """
        chosen = {f: h for f, h in self._hosted.items() if h.manifest.name == name}
        if not chosen:
            raise ModelNotFound("no model of this name is loaded; GET /models lists those that are")
        for folder, hosted in chosen.items():
            await self.remove(folder)
            self._unloaded[folder] = hosted.manifest
            log.info("unloaded_by_hand", extra={"folder": folder.name, "model": name})

    def unloaded(self) -> list[Target]:
        """Return what was unloaded by hand and can be loaded again."""
        return [manifest.target for manifest in self._unloaded.values()]

    async def _load(
        self, folder: Path, manifest: Manifest | None, unusable: Unusable | None
    ) -> Refusal | None:
        if unusable is not None:
            self.refuse(unusable)
            return Refusal(str(unusable.error), str(unusable.error))
        try:
            return await self.put(folder, manifest or read_manifest(folder))
        except ManifestError as error:  # the folder has gone
            return Refusal(str(error), str(error))

    def _replace(self, old: Hosted | None, new: Hosted) -> None:
        self._hosted[new.folder] = new
        self._unloaded.pop(new.folder, None)
        self._clear(new.folder)
        self._refused = {f: target for f, target in self._refused.items() if target != new.target}
        self._transport.connect(new.target, new.pool.submit)
        if old is not None:
            old.hide()
            if old.target != new.target:
                self._drop(old)
            task = asyncio.create_task(self._leave(old))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        new.show()

    def _clear(self, folder: Path) -> None:
        """Show a folder as failed no longer."""
        target = self._refused.pop(folder, None)
        if target is not None:
            self._forget(target)

    def _drop(self, hosted: Hosted) -> None:
        hosted.hide()
        self._transport.disconnect(hosted.target)
        self._forget(hosted.target)

    async def _leave(self, hosted: Hosted) -> None:
        """End a pool that gets no more requests, once it has answered those that it has."""
        try:
            await hosted.pool.drained()
        finally:
            await hosted.pool.__aexit__(None, None, None)
