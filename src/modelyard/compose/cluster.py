"""A gateway, and a worker, on either side of a broker: each as many times as one likes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

from modelyard.caches.redis import RedisCache
from modelyard.compose.process import OnChange, Process, spare_the_collector, stop_on_signals
from modelyard.core.errors import RequestError
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Announcement
from modelyard.core.names import Target
from modelyard.pool.pool import Pool
from modelyard.settings import Settings, SettingsError
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.address import Address, parse_addresses
from modelyard.transports.amqp.announcing import Announcer
from modelyard.transports.amqp.client import AmqpTransport
from modelyard.transports.amqp.lanes import Capacity
from modelyard.transports.amqp.listening import Listener
from modelyard.transports.amqp.server import AmqpServer

log = logging.getLogger(__name__)


def own_name() -> str:
    """Give a name that tells an administrator where a process is, and is no other process's: those
    of a Deployment's pods differ at their end alone, and each may have the same process id.
    """
    return f"{socket.gethostname()[:32]}.{os.getpid()}.{secrets.token_hex(4)}"


def _addresses(settings: Settings) -> list[Address]:
    try:
        return parse_addresses(settings.broker_url)
    except (ValueError, OSError) as error:
        raise SettingsError(f"amqp_url: {error}") from error


@contextlib.asynccontextmanager
async def _background(*runs: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``runs`` as long as the block; should one fail, the block is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run) for run in runs]
        yield
        for task in tasks:
            task.cancel()


class ClusterGateway:
    """HTTP on one side, the broker on the other; knows the models from the workers' announcements.

    Args:
        settings: What the process was told; ``amqp_url`` among it.
        on_change: Told of every change of a target.
    """

    def __init__(self, settings: Settings, *, on_change: OnChange) -> None:
        name, metrics, addresses = own_name(), Metrics(), _addresses(settings)
        self._listener = Listener(
            addresses,
            name=name,
            announce=self._announce,
            is_blocked=lambda: self._transport.is_blocked,
            on_queue_lost=lambda target, at: self._transport.resend(target, departed_before=at),
        )
        self._transport = AmqpTransport(
            addresses,
            name=name,
            metrics=metrics,
            capacity=self._capacity,
            on_unroutable=self._listener.is_gone,
        )
        metrics.watch_broker(lambda: self._transport.is_connected)
        url = settings.cache_url
        self._cache = RedisCache(url, metrics=metrics) if url else None
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=self._transport,
            on_change=on_change,
            metrics=metrics,
            shared_cache=self._cache,
        )

    async def run(self, listener: socket.socket) -> None:
        """Serve on ``listener`` until a signal says stop."""
        with stop_on_signals(self._process.stop):
            async with (
                self._cache or contextlib.nullcontext(),
                _background(self._transport.run(), self._listener.run()),
            ):
                await self._process.serve(listener)
                log.info("drained")

    def _announce(self, announcement: Announcement) -> None:
        self._process.announce(announcement)

    def _capacity(self, target: Target) -> Capacity:
        try:
            entry = self._process.catalog.resolve(target.name, target.version)
        except RequestError:
            return Capacity(batch_size=1, runners=1)
        announced = entry.announcement
        return Capacity(announced.max_batch_size, announced.runners_ready)

    def _verdict(self) -> str:
        if not self._transport.is_connected:
            return "no broker"
        return "ready" if self._listener.knows_all else "no catalog yet"


class ClusterWorker:
    """One pool that takes its work from the broker; HTTP only for health and metrics.

    Args:
        settings: What the process was told; ``amqp_url`` among it.
        folder: The model's.
        manifest: What its ``model.toml`` says.
        on_change: Told of every change of the target.
    """

    def __init__(
        self, settings: Settings, folder: Path, manifest: Manifest, *, on_change: OnChange
    ) -> None:
        self._settings = settings
        self._is_hurried = asyncio.Event()  # by a second signal
        name, metrics, target = own_name(), Metrics(), manifest.target
        addresses = _addresses(settings)
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=None,
            on_change=on_change,
            metrics=metrics,
        )
        self._pool = Pool(
            folder=folder,
            manifest=manifest,
            metrics=metrics.of_pool(target),
            announce=self._announce,
        )
        self._server = AmqpServer(
            addresses,
            name=name,
            target=target,
            queue_type=settings.queue_type,
            prefetch=lambda: self._pool.wanted_bundles,
            submit=self._pool.submit,
            digest=lambda: self._pool.digest,
            on_consuming=self._on_consuming,
            metrics=metrics,
        )
        metrics.watch_broker(lambda: self._server.is_consuming)
        self._announcer = Announcer(
            addresses,
            name=name,
            is_consuming=lambda: self._server.is_consuming,
            count_waiting=self._server.count_waiting,
            queue_lost_s=lambda: self._server.queue_lost_s,
        )

    async def run(self, listener: socket.socket) -> None:
        """Work until a signal says stop; ``listener`` is for health and metrics."""
        with stop_on_signals(self._stop):
            async with (
                self._pool,
                _background(self._announcer.run(), self._consume_while_serving()),
            ):
                await self._process.serve(listener)
                await self._drain()

    async def _consume_while_serving(self) -> None:
        """Take bundles only while the model can be asked: others may have a worker that can."""
        while True:
            await self._pool.wait_until(is_serving=True)
            spare_the_collector()
            async with _background(self._server.run()):
                await self._pool.wait_until(is_serving=False)

    def _stop(self, *, is_forced: bool) -> None:
        self._process.stop(is_forced=is_forced)
        if is_forced:
            self._is_hurried.set()

    async def _drain(self) -> None:
        """Be forgotten, take no more, finish, ack: in this order nothing is delivered twice."""
        log.info("draining")
        await self._announcer.say_goodbye()
        hurried = asyncio.create_task(self._is_hurried.wait())
        finished = asyncio.create_task(self._finish())
        await asyncio.wait(
            [hurried, finished],
            timeout=self._settings.drain_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurried.cancel()
        finished.cancel()

    async def _finish(self) -> None:
        await self._server.linger()
        await self._server.drain()

    def _announce(self, announcement: Announcement) -> None:
        self._process.announce(announcement)
        self._announcer.announce(announcement)

    def _on_consuming(self) -> None:
        self._announcer.hurry()

    def _verdict(self) -> str:
        (entry,) = self._process.catalog.entries()
        if not entry.is_serving:
            return entry.announcement.state
        return "ready" if self._server.is_consuming else "no broker"
