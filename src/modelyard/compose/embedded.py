"""Everything in one process tree: ``modelyard serve``.

Start-up order: pools, then HTTP, so that a process that answers has a catalog. Shutdown order: not
ready, stop accepting, finish the requests in flight, stop the runners.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from modelyard.compose.process import (
    OnChange,
    OnStopping,
    Process,
    spare_the_collector,
    stop_on_signals,
)
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Announcement
from modelyard.core.verdict import Verdict
from modelyard.pool.pool import Pool
from modelyard.pool.runner_process import RunnerProcess
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.local import LocalTransport


class Embedded:
    """Gateway, pools and runners in one process tree.

    Args:
        settings: The settings.
        models: Folder and manifest of each model.
        failed: Announcements of models that cannot be started at all.
        on_change: Called at every change of a target.
        on_stopping: Called on the first stop signal, with the number of requests in flight.
    """

    def __init__(
        self,
        settings: Settings,
        models: list[tuple[Path, Manifest]],
        *,
        failed: Sequence[Announcement] = (),
        on_change: OnChange,
        on_stopping: OnStopping | None = None,
    ) -> None:
        self._failed = failed
        self._transport = LocalTransport()
        metrics = Metrics()
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=self._transport,
            on_change=on_change,
            on_stopping=on_stopping,
            metrics=metrics,
        )
        self._pools = [
            Pool(
                folder=folder,
                manifest=manifest,
                metrics=metrics.of_pool(manifest.target),
                announce=self._process.announce,
                launch=RunnerProcess.start,
                clock=time.monotonic,
                may_sleep=True,
            )
            for folder, manifest in models
        ]

    async def run(self, listener: socket.socket, *, on_settled: Callable[[], None]) -> None:
        """Serve on ``listener`` until a stop signal. ``on_settled`` is called once every model has
        loaded or failed.
        """
        for announcement in self._failed:
            self._process.announce(announcement)
        with stop_on_signals(self._process.stop):
            async with contextlib.AsyncExitStack() as stack:
                for pool in self._pools:
                    await stack.enter_async_context(pool)
                    self._transport.connect(pool.target, pool.submit)
                settled = asyncio.create_task(self._settle(on_settled))
                try:
                    await self._process.serve(listener)
                finally:
                    settled.cancel()
                    for pool in self._pools:  # all at once; each is then waited for
                        pool.stop()

    async def _settle(self, on_settled: Callable[[], None]) -> None:
        await asyncio.gather(*(pool.settled() for pool in self._pools))
        spare_the_collector()
        on_settled()

    def _verdict(self) -> Verdict:
        entries = self._process.catalog.entries()
        if any(entry.announcement.state == "starting" for entry in entries):
            return Verdict("starting", is_ready=False)
        is_ready = any(entry.is_open for entry in entries)
        return Verdict("ready" if is_ready else "no model is up", is_ready=is_ready)
