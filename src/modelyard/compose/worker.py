"""A worker of a cluster: one pool that takes its work from the broker."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path

import msgspec

from modelyard.compose.broker import make_broker
from modelyard.compose.launching import make_launcher
from modelyard.compose.objects import make_errands
from modelyard.compose.process import OnChange, Process
from modelyard.compose.running import background, spare_the_collector, stop_on_signals
from modelyard.compose.traces import Traces
from modelyard.core.manifest import Manifest
from modelyard.core.messages import SERVING, Announcement
from modelyard.core.verdict import Verdict
from modelyard.pool.pool import Pool
from modelyard.settings import Settings, SettingsError
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.announcer import Announcer
from modelyard.transports.amqp.consumer import AmqpConsumer

WAITING = "loaded, waiting for the broker"

log = logging.getLogger(__name__)


class LoadError(Exception):
    """The model has failed to load ``load_attempts`` times; the text says why."""


class ClusterWorker:
    """One pool that takes its work from the broker; HTTP only for health and metrics.

    Args:
        settings: The settings, including ``amqp_url``.
        folder: The model's folder.
        manifest: Its manifest.
        on_change: Called at every change of the target.
        traces: Makes the spans of requests; None if there are none.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        manifest: Manifest,
        *,
        on_change: OnChange,
        traces: Traces | None = None,
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
            cancel_grace_s=settings.job_cancel_grace_s,
            errands=make_errands(settings, is_alone=False),
            tell_progress=lambda *said: self._consumer.tell_progress(*said),  # noqa: PLW0108
            spans=None if traces is None else traces.of_pool(target, has_queue=True),
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
