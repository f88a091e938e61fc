"""Puts the parts together: the only place that chooses implementations, starts and stops them.

``Embedded`` is everything in one process tree. Order of the start: pools, then HTTP, so that
a process that answers has a catalog. Order of the end: not ready, accept no more, finish what is
under way, end the runners.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from modelyard import __version__
from modelyard.caches.memory import MemoryCache
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Announcement
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Dispatch
from modelyard.gateway.app import Gateway, make_pages
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.server import Server, make_server
from modelyard.pool.pool import Pool
from modelyard.settings import Settings
from modelyard.telemetry.metrics import CONTENT_TYPE, Metrics
from modelyard.transports.local import LocalTransport

log = logging.getLogger(__name__)

OnChange = Callable[[Announcement], None]


class Stop(Protocol):
    """Called to end the process."""

    def __call__(self, *, is_forced: bool) -> None: ...


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
        self._on_change = on_change
        self._is_draining = False
        self._metrics = Metrics()
        self._catalog = Catalog()
        self._transport = LocalTransport()
        self._pools = [self._make_pool(folder, manifest) for folder, manifest in models]
        self._server = self._make_server()

    async def run(self, listener: socket.socket, *, on_settled: Callable[[], None]) -> None:
        """Serve on ``listener`` until a signal says stop; ``on_settled`` is called once every
        model has loaded or failed to.
        """
        with _stop_on_signals(self._stop):
            async with contextlib.AsyncExitStack() as stack:
                for pool in self._pools:
                    await stack.enter_async_context(pool)
                    self._transport.connect(pool.target, pool.submit)
                settled = asyncio.create_task(self._settle(on_settled))
                try:
                    await self._server.serve(sockets=[listener])
                    await self._drain()
                finally:
                    settled.cancel()

    async def _settle(self, on_settled: Callable[[], None]) -> None:
        await asyncio.gather(*(pool.settled() for pool in self._pools))
        _spare_the_collector()
        on_settled()

    async def _drain(self) -> None:
        """Finish what runs; the server has already waited for all who wait for an answer."""
        log.info("draining")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                await asyncio.gather(*(pool.drained() for pool in self._pools))

    def _stop(self, *, is_forced: bool) -> None:
        self._is_draining = True
        self._server.stop(is_forced=is_forced)

    def _make_pool(self, folder: Path, manifest: Manifest) -> Pool:
        return Pool(
            folder=folder,
            manifest=manifest,
            metrics=self._metrics.of_pool(manifest.target),
            announce=self._announce,
        )

    def _announce(self, announcement: Announcement) -> None:
        target = announcement.target
        self._catalog.announce(announcement)
        entry = self._catalog.resolve(target.name, target.version)
        self._metrics.watch_in_flight(target, lambda: entry.in_flight)
        self._metrics.set_runners(
            target, all_=announcement.runners, ready=announcement.runners_ready
        )
        self._on_change(announcement)

    def _make_server(self) -> Server:
        settings = self._settings
        dispatch = Dispatch(
            catalog=self._catalog,
            transport=self._transport,
            cache=MemoryCache(max_bytes=settings.cache_bytes) if settings.cache_bytes else None,
            metrics=self._metrics,
            timeout_cap_s=settings.max_timeout_s,
        )
        predict = PredictEndpoint(
            dispatch=dispatch,
            metrics=self._metrics,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.body_timeout_s,
            is_access_logged=settings.access_log,
        )
        pages = make_pages(
            catalog=self._catalog,
            version=__version__,
            render_metrics=lambda: (self._metrics.render(), CONTENT_TYPE),
            is_draining=lambda: self._is_draining,
        )
        return make_server(
            Gateway(predict=predict, pages=pages),
            header_timeout_s=settings.header_timeout_s,
            drain_s=settings.drain_s,
        )


def _spare_the_collector() -> None:
    """Keep what is imported by now out of garbage collection, and collect less often.

    Requests make few cycles; looking at all modules again and again for them took a tenth of the
    gateway's time under load, in pauses of up to 20 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@contextlib.contextmanager
def _stop_on_signals(stop: Stop) -> Iterator[None]:
    """Call ``stop`` on SIGTERM and SIGINT: the first asks, a second one forces."""
    loop = asyncio.get_running_loop()
    came = 0

    def on_signal() -> None:
        nonlocal came
        came += 1
        stop(is_forced=came > 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
