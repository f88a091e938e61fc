"""What every process has: HTTP, metrics, a catalog, and shutdown on signals."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import TYPE_CHECKING

from modelyard import __version__
from modelyard.caches.layered import FarCache
from modelyard.compose.access import OpenGate
from modelyard.compose.agents import open_mcp, running
from modelyard.compose.jobs import OpenJobs
from modelyard.compose.payloads import open_payloads
from modelyard.compose.registry import make_routes
from modelyard.compose.routes import RouteFollower, RouteReader, StoreRoutes, sticky_header_of
from modelyard.compose.running import background, spare_the_collector
from modelyard.compose.secured import open_tls
from modelyard.compose.traces import Traces
from modelyard.core.messages import Announcement
from modelyard.core.names import Target, is_loopback
from modelyard.core.routes import Snapshot
from modelyard.core.verdict import DRAINING, Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.interfaces import Transport
from modelyard.settings import Settings, parts_of
from modelyard.telemetry.faults import Faults
from modelyard.telemetry.history import History
from modelyard.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from modelyard.compose.console import Console
    from modelyard.gateway.cors import Cors
    from modelyard.gateway.predict import PredictEndpoint
    from modelyard.gateway.routes import ByHand, Workers
    from modelyard.gateway.server import Server
    from modelyard.gateway.types import App
    from modelyard.grpc.server import GrpcServer
    from modelyard.mcp.page import McpPage
    from modelyard.registry.kept import KeptRegistry

log = logging.getLogger(__name__)

OnChange = Callable[[Announcement], None]
OnStopping = Callable[[int], None]


class Process:
    """The parts that every process has.

    Args:
        settings: The settings.
        verdict: Returns the readiness.
        transport: Carries predictions; None for a process without predictions over HTTP.
        on_change: Called at every change of a target.
        metrics: The metrics of the process.
        shared_cache: Cache behind the one in memory; None for none.
        workers: View of the workers; None in the embedded shape.
        is_complete: Whether every target that is up has had the time to be announced.
        on_stopping: Called on the first stop signal, with the number of requests in flight.
        gate: Says who may ask; None if everybody may.
        registry: Is served beside the models; None if there is none.
        routes: Where they are; None for the store.
        tell_routes: Called with routes that other gateways may not know yet.
        jobs: Are kept and run here; None if there is no store for them.
        traces: Makes the spans of requests; None if there are none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        verdict: Callable[[], Verdict],
        transport: Transport | None,
        on_change: OnChange,
        metrics: Metrics,
        shared_cache: FarCache | None = None,
        workers: Workers | None = None,
        is_complete: Callable[[], bool] = lambda: True,
        on_stopping: OnStopping | None = None,
        gate: OpenGate | None = None,
        registry: KeptRegistry | None = None,
        routes: RouteReader | None = None,
        tell_routes: Callable[[Snapshot], None] = lambda _: None,
        jobs: OpenJobs | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._registry = registry
        self._traces = traces
        self._jobs = jobs
        self.has_routes = asyncio.Event()  # or there are none that could be read
        self._on_stopping = on_stopping
        self._shared_cache = shared_cache
        self._settings = settings
        self._verdict = verdict
        self._on_change = on_change
        self.metrics = metrics
        defaults = settings.versions_by_default
        self.catalog = Catalog(is_complete=is_complete, defaults=defaults, chance=Random())
        self.follower = RouteFollower(
            routes or StoreRoutes(settings),
            state=settings.state,
            replace=self.catalog.router.replace,
            tell=tell_routes,
        )
        self.is_draining, self._transport, self._workers = False, transport, workers
        opened = None if transport is None else open_payloads(settings, metrics, gate, registry)
        self.payloads = opened
        self._server: Server | None = None
        self._grpc_server: GrpcServer | None = None
        self._gate = gate
        self._secured, self._sticky_header = open_tls(settings), sticky_header_of(settings)
        self.inner_socket = ""  # where models of this process tree ask for others
        self._history = History(metrics.readings, wall_clock=time.time)
        self.faults = Faults()
        self.by_hand: ByHand | None = None  # loads and unloads models, where that can be done

    def announce(self, announcement: Announcement) -> None:
        """Update a target in the catalog, the metrics and the display."""
        target = announcement.target
        is_new = self.catalog.find(target) is None
        entry = self.catalog.announce(announcement)
        if self.payloads is not None:
            self.payloads.see(announcement)
        if is_new:
            self.metrics.watch_in_flight(target, lambda: entry.in_flight)
            if (workers := self._workers) is not None:
                self.metrics.watch_demand(target, lambda: workers.demand(target).runners)
        self.metrics.set_runners(
            target, all_=announcement.runners, ready=announcement.runners_ready
        )
        try:
            self._on_change(announcement)
        except Exception:  # a failing display must not affect serving
            log.exception("not_shown", extra={"model": str(target)})

    def forget(self, target: Target) -> None:
        """Forget a target that is gone."""
        self.catalog.forget(target)
        self.metrics.forget(target)

    async def serve(self, listener: socket.socket) -> None:
        """Answer HTTP on ``listener`` until ``stop``."""
        # The web framework takes longer to import than everything else together. Meanwhile runners
        # start, and workers and gateways connect to the broker.
        await asyncio.to_thread(importlib.import_module, "modelyard.gateway.app")
        from modelyard.gateway.cors import Cors

        cors, endpoint = Cors(self._settings.cors_origins), None
        if self._transport is not None:
            endpoint = self._make_endpoint(self._transport, cors)
        mcp = open_mcp(self._settings, self.catalog, endpoint)
        self._server = self._make_server(endpoint, cors, mcp)
        async with self._following(endpoint), self._grpc(endpoint), running(mcp):
            spare_the_collector()
            if self.is_draining:
                self.stop(is_forced=False)
            await self._server.serve(sockets=[listener])
            if self._jobs is not None:
                await self._jobs.drain(self._settings.drain_s)

    def stop(self, *, is_forced: bool) -> None:
        """Stop accepting, and finish the requests in flight; then ``serve`` returns."""
        if not self.is_draining and self._on_stopping is not None:
            self._on_stopping(sum(entry.in_flight for entry in self.catalog.entries()))
        self.is_draining = True
        if self._jobs is not None:
            self._jobs.close(is_forced=is_forced)
        for server in (self._server, self._grpc_server):
            if server is not None:
                server.stop(is_forced=is_forced)

    def _make_server(
        self, endpoint: PredictEndpoint | None, cors: Cors, mcp: McpPage | None
    ) -> Server:
        from modelyard.gateway.app import make_pages, make_worker_pages, refuse_page
        from modelyard.gateway.guard import Guard, Refuse
        from modelyard.gateway.reader import Limits
        from modelyard.gateway.server import make_server

        settings = self._settings
        refuse: Refuse = refuse_page
        pages: App
        if endpoint is None:
            pages = make_worker_pages(
                catalog=self.catalog,
                render_metrics=self.metrics.page,
                verdict=self._full_verdict,
            )
        else:
            console = self._make_console(endpoint)
            if console is not None:
                refuse = console.refusing(refuse_page)
            pages = make_pages(
                catalog=self.catalog,
                version=__version__,
                render_metrics=self.metrics.page,
                verdict=self._full_verdict,
                workers=self._workers,
                by_hand=self._changing(),
                is_guarded=self._gate is not None,
                registry=make_routes(
                    self._registry, self.catalog, settings=settings, may_change=self._is_safe()
                ),
                mcp=mcp,
                jobs=self._jobs.desk if self._jobs else None,
                bulk=self._jobs.bulk_pages(self.catalog, self._gate) if self._jobs else None,
                console=None if console is None else console.routes,
            )
        if self._gate is not None:
            opened = frozenset(parts_of(settings.open_pages))
            pages = Guard(pages, gate=self._gate.gate, open_pages=opened, refuse=refuse)
        return make_server(
            cors.around(pages),
            endpoint=endpoint,
            limits=Limits(
                header_timeout_s=settings.header_timeout_s,
                body_timeout_s=settings.body_timeout_s,
                max_body_bytes=settings.max_body_bytes,
                max_job_bytes=0 if self._jobs is None else self._jobs.most_bytes,
            ),
            drain_s=settings.drain_s,
            inside=self.inner_socket,
            tls=None if self._secured is None else self._secured.context,
        )

    @contextlib.asynccontextmanager
    async def _following(self, endpoint: PredictEndpoint | None) -> AsyncIterator[None]:
        """Keep keys, certificate and routes up to date as long as the block."""
        from modelyard.gateway.tls import renew

        runs = []
        if (opened := self._gate) is not None:
            runs += [run() for run in opened.runs]
            runs.append(opened.keeper(self.metrics.used).run())
        if self._secured is not None:
            runs.append(renew(*self._secured))
        if endpoint is not None:
            await self.follower.start()
            self.has_routes.set()
            runs.append(self.follower.run())
            runs += [] if self._jobs is None else self._jobs.runs()
            runs += [] if self.payloads is None else self.payloads.runs()
            if self._settings.console:
                runs.append(self._history.run())
        async with background(*runs):
            yield

    @contextlib.asynccontextmanager
    async def _grpc(self, endpoint: PredictEndpoint | None) -> AsyncIterator[None]:
        """Serve gRPC as long as the block, and until its calls are finished, where that is set."""
        if self._settings.grpc_port is None or endpoint is None:
            yield
            return
        from modelyard.compose.grpc import make_grpc, serving

        self._grpc_server = make_grpc(
            self._settings,
            endpoint,
            catalog=self.catalog,
            render_metrics=self.metrics.page,
            verdict=self._full_verdict,
            by_hand=self._changing(),
            gate=None if self._gate is None else self._gate.gate,
        )
        tls = None if self._secured is None else self._secured.tls
        async with serving(self._grpc_server, self._settings, tls):
            yield

    def _make_console(self, endpoint: PredictEndpoint) -> Console | None:
        from modelyard.compose.console import make_console

        return make_console(
            self._settings,
            catalog=self.catalog,
            metrics=self.metrics,
            history=self._history,
            faults=self.faults,
            workers=self._workers,
            predictions=endpoint,
            opened=self._gate,
            jobs=self._jobs,
            may_change=self._is_safe(),
            verdict=self._full_verdict,
        )

    def _changing(self) -> ByHand | None:
        """Return what loads and unloads models, where somebody may."""
        return self.by_hand if self._is_safe() else None

    def _is_safe(self) -> bool:
        """Return whether callers may change something: they are known, or on this machine."""
        return self._gate is not None or is_loopback(self._settings.host)

    def _full_verdict(self) -> Verdict:
        return Verdict(DRAINING, is_ready=False) if self.is_draining else self._verdict()

    def _make_endpoint(self, transport: Transport, cors: Cors) -> PredictEndpoint:
        from modelyard.compose.endpoint import make_endpoint

        return make_endpoint(
            self._settings,
            catalog=self.catalog,
            transport=transport,
            metrics=self.metrics,
            cors=cors,
            gate=None if self._gate is None else self._gate.gate,
            shared_cache=self._shared_cache,
            sticky_header=self._sticky_header,
            jobs=self._jobs,
            payloads=self.payloads,
            accounts=None if self._gate is None else self._gate.accounts,
            spans=None if self._traces is None else self._traces.of_requests(self.metrics),
        )
