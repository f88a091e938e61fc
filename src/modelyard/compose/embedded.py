"""Everything in one process tree: ``modelyard serve``.

Order of the start: pools, then HTTP, so that a process that answers has a catalog. Order of the
end: not ready, accept no more, finish what is under way, end the runners.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from modelyard.compose.process import OnChange, Process, spare_the_collector, stop_on_signals
from modelyard.core.manifest import Manifest
from modelyard.pool.pool import Pool
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.local import LocalTransport

log = logging.getLogger(__name__)


class Embedded:
    """Gateway, pools and runners in one process tree.

    Args:
        settings: What the process was told.
        models: Folder and manifest of each model.
        on_change: Told of every change of a target.
    """

    def __init__(
        self, settings: Settings, models: list[tuple[Path, Manifest]], *, on_change: OnChange
    ) -> None:
        self._settings = settings
        self._transport = LocalTransport()
        metrics = Metrics()
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=self._transport,
            on_change=on_change,
            metrics=metrics,
        )
        self._pools = [
            Pool(
                folder=folder,
                manifest=manifest,
                metrics=metrics.of_pool(manifest.target),
                announce=self._process.announce,
            )
            for folder, manifest in models
        ]

    async def run(self, listener: socket.socket, *, on_settled: Callable[[], None]) -> None:
        """Serve on ``listener`` until a signal says stop; ``on_settled`` is called once every
        model has loaded or failed to.
        """
        with stop_on_signals(self._process.stop):
            async with contextlib.AsyncExitStack() as stack:
                for pool in self._pools:
                    await stack.enter_async_context(pool)
                    self._transport.connect(pool.target, pool.submit)
                settled = asyncio.create_task(self._settle(on_settled))
                try:
                    await self._process.server.serve(sockets=[listener])
                    await self._drain()
                finally:
                    settled.cancel()

    async def _settle(self, on_settled: Callable[[], None]) -> None:
        await asyncio.gather(*(pool.settled() for pool in self._pools))
        spare_the_collector()
        on_settled()

    async def _drain(self) -> None:
        """Finish what runs; the server has already waited for all who wait for an answer."""
        log.info("draining")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                await asyncio.gather(*(pool.drained() for pool in self._pools))

    def _verdict(self) -> str:
        entries = self._process.catalog.entries()
        if any(entry.announcement.state == "starting" for entry in entries):
            return "starting"
        return "ready" if any(entry.is_serving for entry in entries) else "no model is up"
