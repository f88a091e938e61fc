"""A slot of a pool: the place of one runner, filled again whenever the runner ends.

Knows which jobs its runner has, so that none is lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.core.manifest import Manifest
from modelyard.core.messages import Answers, Batch, LoadFailed, Ready, Stop
from modelyard.pool.process import RunnerProcess

if TYPE_CHECKING:
    from modelyard.pool.job import Job
    from modelyard.pool.pool import Pool

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0


class Slot:
    """One runner's place."""

    def __init__(self, pool: Pool, *, folder: Path, manifest: Manifest) -> None:
        self.jobs: list[Job] = []
        self.hung_at = 0.0
        self.idle_since = 0.0
        self.is_ready = False
        self._pool = pool
        self._folder = folder
        self._manifest = manifest
        self._process: RunnerProcess | None = None
        self._started = 0.0
        self._is_hung = False
        self._leaving = asyncio.Event()

    def run(self, jobs: list[Job], *, hung_at: float) -> None:
        """Hand a batch to the runner, which must be idle."""
        assert self._process is not None and not self.jobs
        self.jobs, self.hung_at, self._started = jobs, hung_at, time.monotonic()
        self._process.send(Batch([job.request.input for job in jobs]))

    def kill_hung(self) -> None:
        """End the runner in the middle of its batch."""
        assert self._process is not None
        self._is_hung = True
        self._process.kill()

    def stop(self, grace_s: float) -> None:
        """Let the runner unload and end; kill it after the grace; leave the slot empty."""
        self._leaving.set()
        if self._process is None:
            return
        if self.is_ready:
            self._process.send(Stop())
            asyncio.get_running_loop().call_later(grace_s, self._process.kill)
        else:
            self._process.kill()

    async def keep_running(self) -> None:
        """Keep a runner in the slot until ``stop``."""
        failures = 0
        while not self._leaving.is_set():
            try:
                has_served = await self._run_one()
            except OSError as error:
                has_served = False
                self._pool.on_lost(self, [], cause="load_failed", how=str(error))
            failures = 0 if has_served else failures + 1
            if failures and not self._leaving.is_set():
                backoff_s = min(FIRST_BACKOFF_S * 2 ** (failures - 1), LONGEST_BACKOFF_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), backoff_s)
        self._pool.on_left(self)

    async def _run_one(self) -> bool:
        """Start a runner and see it to its end; tell whether it ever was ready."""
        process = await RunnerProcess.start(self._folder, self._manifest, self._on_answers)
        self._process = process
        ended = asyncio.create_task(process.wait())
        try:
            if self._leaving.is_set():
                return False
            problem = await self._open(process, ended)
            if problem is None:
                how = await ended
                self.is_ready = False
                if not self._leaving.is_set() or self.jobs:
                    self._report(how)
                return True
            if not self._leaving.is_set():
                self._pool.on_lost(self, [], cause="load_failed", how=problem)
            return False
        finally:
            self._process, self.is_ready = None, False
            process.kill()
            await ended

    async def _open(self, process: RunnerProcess, ended: asyncio.Task[str]) -> str | None:
        """Wait for the model to load; gives what went wrong."""
        limit_s = self._manifest.limits.load_timeout_s
        waits: list[asyncio.Future[Any]] = [process.opened, ended]
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if process.opened.cancelled():
            return f"the runner ended while it loaded the model: {await ended}"
        if not process.opened.done():
            return f"loading took longer than load_timeout_s = {limit_s:g}"
        outcome = process.opened.result()
        if isinstance(outcome, LoadFailed):
            return outcome.reason
        return self._enter_service(outcome)

    def _enter_service(self, ready: Ready) -> str | None:
        self.is_ready, self.idle_since = True, time.monotonic()
        problem = self._pool.on_ready(self, ready)
        if problem:
            self.is_ready = False
        return problem or None

    def _on_answers(self, answers: Answers) -> None:
        now = time.monotonic()
        jobs, self.jobs, self.idle_since = self.jobs, [], now
        self._pool.on_answers(self, jobs, answers, now - self._started)

    def _report(self, how: str) -> None:
        jobs, self.jobs = self.jobs, []
        cause = "hung" if self._is_hung else "crashed"
        self._is_hung = False
        self._pool.on_lost(self, jobs, cause=cause, how=how)
