"""Everything in one process tree: ``modelyard serve``.

Start-up order: pools, then HTTP, so that a process that answers has a catalog. Shutdown order: not
ready, stop accepting, finish the requests in flight, stop the runners.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from modelyard.calling.address import UNIX
from modelyard.compose.access import OpenGate
from modelyard.compose.jobs import OpenJobs
from modelyard.compose.launching import make_launcher
from modelyard.compose.models import Models, Scan
from modelyard.compose.named import NamedModels
from modelyard.compose.objects import make_errands
from modelyard.compose.process import OnChange, OnStopping, Process
from modelyard.compose.registry import NamedIn
from modelyard.compose.reloading import Reloader
from modelyard.compose.running import background, spare_the_collector, stop_on_signals
from modelyard.compose.traces import Traces
from modelyard.core.call import Call
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Announcement, Progress
from modelyard.core.verdict import Verdict
from modelyard.folder import Unusable
from modelyard.pool.pool import Pool
from modelyard.registry.kept import KeptRegistry
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.local import LocalTransport

WARM_EVERY_S = 1.0


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
        named_in: The registry whose routes are followed, and whose versions that they name are
            served beside the models; None for the folders alone.
        jobs: Are kept and run here; None if there is no store for them.
        traces: Makes the spans of requests; None if there are none.
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
        named_in: NamedIn | None = None,
        jobs: OpenJobs | None = None,
        traces: Traces | None = None,
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
            routes=None if named_in is None else named_in.routes,
            jobs=jobs,
            traces=traces,
        )
        self._inside = TemporaryDirectory(prefix="modelyard-", ignore_cleanup_errors=True)
        self._process.inner_socket = socket_path = f"{self._inside.name}/calls"
        manifests = [manifest for _, manifest in models]
        launcher = make_launcher(settings, manifests, gateway_url=f"{UNIX}{socket_path}")
        self._models = models
        self._has_settled = False
        self._is_watching = is_watching

        def tell_progress(calls: list[Call], progress: Progress) -> None:
            if jobs is not None:
                for call in calls:
                    jobs.note_progress(call.request.id, progress)

        errands = None if jobs is None else make_errands(settings, is_alone=True)

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
                spans=None if traces is None else traces.of_pool(manifest.target, has_queue=False),
                cancel_grace_s=settings.job_cancel_grace_s,
                errands=errands,
                tell_progress=tell_progress,
            )

        self._served = Models(
            make_pool=make_pool,
            transport=self._transport,
            announce=self._process.announce,
            forget=self._process.forget,
            scan=scan,
        )
        self._process.by_hand = self._served
        payloads = self._process.payloads
        if payloads is not None and payloads.brought is not None:
            payloads.brought.folder_of = self._served.folder_of
        self._named = None
        if named_in is not None:
            self._named = NamedModels(
                named_in.settings,
                self._served,
                snapshot=lambda: self._process.catalog.router.snapshot,
                actor=named_in.actor,
                clock=time.monotonic,
                wall_clock=time.time,
            )

    async def run(self, listener: socket.socket, *, on_settled: Callable[[], None]) -> None:
        """Serve on ``listener`` until a stop signal. ``on_settled`` is called once every model has
        loaded or failed.
        """
        listening = self._process.faults.listening()
        with stop_on_signals(self._process.stop), self._inside, listening:
            try:
                await self._served.start(self._models, self._unusable)
                async with background(
                    self._settle(on_settled), self._keep_warm(), self._serve_named()
                ):
                    await self._process.serve(listener)
            finally:
                await self._served.stop()

    async def _settle(self, on_settled: Callable[[], None]) -> None:
        if self._named is not None:
            await self._process.has_routes.wait()
            await self._named.settled()
        await self._served.settled()
        spare_the_collector()
        self._has_settled = True
        on_settled()
        if self._is_watching:
            await Reloader(self._served).run()

    async def _serve_named(self) -> None:
        if self._named is not None:
            await self._process.has_routes.wait()
            await self._named.run()

    async def _keep_warm(self) -> None:
        """Let versions keep their runners as long as routes say, until cancelled."""
        while True:
            snapshot, now = self._process.catalog.router.snapshot, time.time()
            self._served.keep_warm(partial(snapshot.is_warm, now=now))
            await asyncio.sleep(WARM_EVERY_S)

    def _verdict(self) -> Verdict:
        entries = self._process.catalog.entries()
        is_starting = any(entry.announcement.state == "starting" for entry in entries)
        if is_starting and not self._has_settled:  # one that comes later disturbs nobody
            return Verdict("starting", is_ready=False)
        is_ready = any(entry.is_open for entry in entries)
        return Verdict("ready" if is_ready else "no model is up", is_ready=is_ready)
