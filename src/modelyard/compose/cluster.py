"""The two kinds of processes of a cluster, gateway and worker, with a broker between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from functools import partial
from pathlib import Path

import msgspec

from modelyard.caches.redis import RedisCache
from modelyard.compose.access import OpenGate, share_limits
from modelyard.compose.broker import make_broker
from modelyard.compose.demands import Demands
from modelyard.compose.jobs import OpenJobs
from modelyard.compose.launching import make_launcher
from modelyard.compose.process import OnChange, OnStopping, Process
from modelyard.compose.routes import name_of_store
from modelyard.compose.running import background, spare_the_collector, stop_on_signals
from modelyard.core.demand import Demand
from modelyard.core.manifest import Manifest
from modelyard.core.messages import SERVING, Announcement, Member
from modelyard.core.names import Target
from modelyard.core.routes import Snapshot
from modelyard.core.verdict import Verdict
from modelyard.pool.pool import Pool
from modelyard.registry.kept import KeptRegistry
from modelyard.settings import Settings, SettingsError
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.announcer import Announcer
from modelyard.transports.amqp.consumer import AmqpConsumer
from modelyard.transports.amqp.lanes import Capacity
from modelyard.transports.amqp.news import RouteNews
from modelyard.transports.amqp.transport import AmqpTransport
from modelyard.transports.amqp.watcher import Watcher

WAITING = "loaded, waiting for the broker"

log = logging.getLogger(__name__)


class LoadError(Exception):
    """The model has failed to load ``load_attempts`` times; the text says why."""


class ClusterGateway:
    """HTTP on one side, the broker on the other; learns the models from workers' announcements.

    Args:
        settings: The settings, including ``amqp_url``.
        on_change: Called at every change of a target.
        on_stopping: Called on the first stop signal, with the number of requests in flight.
        gate: Says who may ask; None if everybody may.
        registry: Is served beside the models; None if there is none.
        jobs: Are kept and run here; None if there is no store for them.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_change: OnChange,
        on_stopping: OnStopping | None = None,
        gate: OpenGate | None = None,
        registry: KeptRegistry | None = None,
        jobs: OpenJobs | None = None,
    ) -> None:
        metrics = Metrics()
        broker = make_broker(settings, metrics)
        self._news = RouteNews(
            broker,
            store=name_of_store(settings),
            snapshot=lambda: self._process.catalog.router.snapshot,
            hear=self._hear,
        )
        self._watcher = Watcher(
            broker,
            queue_type=settings.queue_type,
            announce=self._announce,
            forget=self._forget,
            is_blocked=lambda: self._transport.is_blocked,
            on_queue_lost=lambda target, at: self._transport.resend(target, departed_before=at),
            forget_after_s=settings.forget_model_s,
            news=self._news,
        )
        self._transport = AmqpTransport(
            broker,
            capacity=self._capacity,
            on_unroutable=self._watcher.forget_asleep,
        )
        metrics.watch_broker(lambda: self._transport.is_connected)
        url = settings.cache_url
        self._cache = RedisCache(url, metrics=metrics, clock=time.monotonic) if url else None
        self._share_limits = partial(share_limits, gate, url, name=broker.owner)
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=self._transport,
            on_change=on_change,
            on_stopping=on_stopping,
            metrics=metrics,
            shared_cache=self._cache,
            workers=self,
            gate=gate,
            registry=registry,
            jobs=jobs,
            is_complete=lambda: self._watcher.knows_all,
            tell_routes=self._news.tell,
        )

        self._demands = Demands(
            self._process.catalog,
            transport=self._transport,
            watcher=self._watcher,
            clock=time.monotonic,
            wall_clock=time.time,
        )

    async def run(self, listener: socket.socket) -> None:
        """Serve on ``listener`` until a stop signal."""
        with stop_on_signals(self._process.stop):
            async with (
                self._cache or contextlib.nullcontext(),
                background(
                    self._transport.run(),
                    self._watcher.run(),
                    self._demands.run(),
                    self._share_limits(),
                ),
            ):
                await self._process.serve(listener)
                log.info("drained")

    def members(self, target: Target) -> list[Member]:
        """See ``gateway.routes.Workers``."""
        return self._watcher.members(target)

    def queued(self, target: Target) -> int | None:
        """See ``gateway.routes.Workers``."""
        known = self._watcher.known(target)
        return known.queued if known else None

    def demand(self, target: Target) -> Demand:
        """See ``gateway.routes.Workers``."""
        return self._demands.of(target)

    def _announce(self, announcement: Announcement) -> None:
        self._process.announce(announcement)

    def _hear(self, snapshot: Snapshot) -> None:
        self._process.follower.hear(snapshot)

    def _forget(self, target: Target) -> None:
        self._transport.forget(target)
        self._process.forget(target)

    def _capacity(self, target: Target) -> Capacity:
        entry = self._process.catalog.find(target)
        if entry is None:
            return Capacity(batch_size=1, runners=1)
        announced = entry.announcement
        at_once = announced.runners_ready * max(1, announced.concurrency)
        return Capacity(announced.max_batch_size, at_once)

    def _verdict(self) -> Verdict:
        """Return the readiness. A gateway with a catalog stays ready without a broker: it answers
        from its cache, and other requests wait for the broker until their deadline.
        """
        if not self._watcher.knows_all:
            why = "no catalog yet" if self._transport.is_connected else "no broker"
            return Verdict(why, is_ready=False)
        return Verdict("ready" if self._transport.is_connected else "no broker", is_ready=True)


class ClusterWorker:
    """One pool that takes its work from the broker; HTTP only for health and metrics.

    Args:
        settings: The settings, including ``amqp_url``.
        folder: The model's folder.
        manifest: Its manifest.
        on_change: Called at every change of the target.
    """

    def __init__(
        self, settings: Settings, folder: Path, manifest: Manifest, *, on_change: OnChange
    ) -> None:
        if settings.expected_model not in ("", str(manifest.target)):
            raise SettingsError(
                f"{folder} holds {manifest.target}, but this worker is to serve "
                f"{settings.expected_model} (MODELYARD_EXPECTED_MODEL): the release's image and "
                "model.toml do not belong together; name the image of that version (image.tag)"
            )
        if manifest.calls.models and not settings.gateway_url:
            raise SettingsError(
                f"{manifest.target} calls other models, and nothing says where the gateway is that "
                "it asks; set gateway_url (MODELYARD_GATEWAY_URL)"
            )
        self._settings = settings
        self._on_change = on_change
        self._gave_up = ""
        self._is_hurried = asyncio.Event()  # by a second signal
        metrics, target = Metrics(), manifest.target
        broker = make_broker(settings, metrics)
        self._process = Process(
            settings,
            verdict=self._verdict,
            transport=None,
            on_change=self._show,
            metrics=metrics,
        )
        self._pool = Pool(
            folder=folder,
            manifest=manifest,
            metrics=metrics.of_pool(target),
            announce=self._announce,
            launch=make_launcher(settings, [manifest]).start,
            clock=time.monotonic,
            log_name="the worker's log",
        )
        self._consumer = AmqpConsumer(
            broker,
            target=target,
            queue_type=settings.queue_type,
            prefetch=lambda: self._pool.wanted_bundles,
            submit=self._pool.submit,
            digest=lambda: self._pool.digest,
            on_consuming=self._on_consuming,
        )
        metrics.watch_broker(lambda: self._consumer.is_consuming)
        self._announcer = Announcer(
            broker,
            host=socket.gethostname(),
            queue_type=settings.queue_type,
            is_consuming=lambda: self._consumer.is_consuming,
            count_waiting=self._consumer.count_waiting,
            queue_lost_s=lambda: self._consumer.queue_lost_s,
            instance_s=lambda: self._pool.instance_s,
        )

    async def run(self, listener: socket.socket) -> None:
        """Work until a stop signal; ``listener`` is for health and metrics.

        Raises:
            LoadError: The model has failed to load ``load_attempts`` times.
        """
        with stop_on_signals(self._stop):
            async with (
                self._pool,
                background(self._announcer.run(), self._consume_while_serving()),
            ):
                await self._process.serve(listener)
                await self._drain()
        if self._gave_up:
            raise LoadError(self._gave_up)

    async def _consume_while_serving(self) -> None:
        """Consume only while the model is ready: until then other workers get the bundles."""
        while True:
            await self._pool.wait_until(is_serving=True)
            spare_the_collector()
            async with background(self._consumer.run()):
                await self._pool.wait_until(is_serving=False)

    def _stop(self, *, is_forced: bool) -> None:
        self._process.stop(is_forced=is_forced)
        if is_forced:
            self._is_hurried.set()

    async def _drain(self) -> None:
        """Say goodbye, stop consuming, finish, ack: in this order nothing is redelivered."""
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
        await self._consumer.linger()
        await self._consumer.drain()

    def _announce(self, announcement: Announcement) -> None:
        self._process.announce(announcement)
        self._announcer.announce(announcement)
        attempts = self._settings.load_attempts
        is_first_load = not self._pool.digest
        is_failed = announcement.state == "failed" and self._pool.failed_loads >= attempts
        if attempts and is_first_load and is_failed:
            self._gave_up = f"{announcement.target} failed to load: {announcement.operator_reason}"
            self._stop(is_forced=True)

    def _on_consuming(self) -> None:
        self._announcer.hurry()
        (entry,) = self._process.catalog.entries()
        self._process.announce(entry.announcement)  # again: what is shown has changed

    def _show(self, announcement: Announcement) -> None:
        """Show the target, ready only once it is both loaded and gets bundles."""
        if announcement.state in SERVING and not self._consumer.is_consuming:
            announcement = msgspec.structs.replace(
                announcement, state="starting", reason=WAITING, full_reason=""
            )
        self._on_change(announcement)

    def _verdict(self) -> Verdict:
        (entry,) = self._process.catalog.entries()
        if not entry.is_serving:
            return Verdict(entry.announcement.state, is_ready=False)
        is_consuming = self._consumer.is_consuming
        return Verdict("ready" if is_consuming else "no broker", is_ready=is_consuming)
