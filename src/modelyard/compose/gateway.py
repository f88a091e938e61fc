"""A gateway of a cluster: HTTP on one side, the broker on the other."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from functools import partial

from modelyard.caches.redis import RedisCache
from modelyard.compose.access import OpenGate, share_limits
from modelyard.compose.broker import make_broker
from modelyard.compose.demands import Demands
from modelyard.compose.jobs import OpenJobs
from modelyard.compose.process import OnChange, OnStopping, Process
from modelyard.compose.routes import name_of_store
from modelyard.compose.running import background, stop_on_signals
from modelyard.compose.traces import Traces
from modelyard.core.demand import Demand
from modelyard.core.messages import Announcement, Member
from modelyard.core.names import Target
from modelyard.core.routes import Snapshot
from modelyard.core.verdict import Verdict
from modelyard.dispatch.interfaces import tell_nobody
from modelyard.registry.kept import KeptRegistry
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.lanes import Capacity
from modelyard.transports.amqp.news import RouteNews
from modelyard.transports.amqp.transport import AmqpTransport
from modelyard.transports.amqp.watcher import Watcher

log = logging.getLogger(__name__)


class ClusterGateway:
    """HTTP on one side, the broker on the other; learns the models from workers' announcements.

    Args:
        settings: The settings, including ``amqp_url``.
        on_change: Called at every change of a target.
        on_stopping: Called on the first stop signal, with the number of requests in flight.
        gate: Says who may ask; None if everybody may.
        registry: Is served beside the models; None if there is none.
        jobs: Are kept and run here; None if there is no store for them.
        traces: Makes the spans of requests; None if there are none.
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
        traces: Traces | None = None,
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
            on_progress=tell_nobody if jobs is None else jobs.note_progress,
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
            traces=traces,
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
