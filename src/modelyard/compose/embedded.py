"""Everything in one process tree: ``modelyard serve``.

Start-up order: pools, then HTTP, so that a process that answers has a catalog. Shutdown order: not
ready, stop accepting, finish the requests in flight, stop the runners.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from modelyard.compose.access import OpenGate
from modelyard.compose.launching import make_launcher
from modelyard.compose.models import Models, Scan
from modelyard.compose.process import OnChange, OnStopping, Process
from modelyard.compose.reloading import Reloader
from modelyard.compose.running import background, spare_the_collector, stop_on_signals
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Announcement
from modelyard.core.verdict import Verdict
from modelyard.folder import Unusable
from modelyard.pool.pool import Pool
from modelyard.registry.kept import KeptRegistry
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.local import LocalTransport


class Embedded:
    """Gateway, pools and runners in one process tree.

    Args:
        settings: The settings.
        models: Folder and manifest of each model.
        unusable: Folders of models that cannot be started at all; they are shown as failed.
        on_change: Told of every change of a target.
        on_stopping: Told how many requests are under way when a signal says stop.
        scan: Reads the folders again.
        is_watching: Whether folders that change, come or go are served as they are then.
        gate: Says who may ask; None if everybody may.
        registry: Is served beside the models; None if there is none.
    """

    def __init__(
        self,
        settings: Settings,
        models: list[tuple[Path, Manifest]],
        *,
        unusable: Sequence[Unusable] = (),
        on_change: OnChange,
        on_stopping: OnStopping | None = None,
        scan: Scan,
        is_watching: bool,
        gate: OpenGate | None = None,
        registry: KeptRegistry | None = None,
    ) -> None:
        self._unusable = unusable
        self._transport = LocalTransport()
        metrics = Metrics()
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=self._transport,
            on_change=on_change,
            on_stopping=on_stopping,
            metrics=metrics,
            gate=gate,
            registry=registry,
        )
        launcher = make_launcher(settings, [manifest for _, manifest in models])
        self._models = models
        self._is_watching = is_watching

        def make_pool(
            folder: Path, manifest: Manifest, announce: Callable[[Announcement], None]
        ) -> Pool:
            return Pool(
                folder=folder,
                manifest=manifest,
                metrics=metrics.of_pool(manifest.target),
                announce=announce,
                launch=launcher.start,
                clock=time.monotonic,
                may_sleep=True,
            )

        self._served = Models(
            make_pool=make_pool,
            transport=self._transport,
            announce=self._process.announce,
            forget=self._process.forget,
            scan=scan,
        )
        self._process.by_hand = self._served

    async def run(self, listener: socket.socket, *, on_settled: Callable[[], None]) -> None:
        """Serve on ``listener`` until a stop signal. ``on_settled`` is called once every model has
        loaded or failed.
        """
        with stop_on_signals(self._process.stop), self._process.faults.listening():
            try:
                await self._served.start(self._models, self._unusable)
                async with background(self._settle(on_settled)):
                    await self._process.serve(listener)
            finally:
                await self._served.stop()

    async def _settle(self, on_settled: Callable[[], None]) -> None:
        await self._served.settled()
        spare_the_collector()
        on_settled()
        if self._is_watching:
            await Reloader(self._served).run()

    def _verdict(self) -> Verdict:
        entries = self._process.catalog.entries()
        if any(entry.announcement.state == "starting" for entry in entries):
            return Verdict("starting", is_ready=False)
        is_ready = any(entry.is_open for entry in entries)
        return Verdict("ready" if is_ready else "no model is up", is_ready=is_ready)
