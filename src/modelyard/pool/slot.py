"""A slot of a pool: the place of one runner, filled again whenever the runner ends.

Knows which jobs its runner has, so that none is lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from modelyard.core.manifest import Manifest
from modelyard.core.messages import Answers, Batch, LoadFailed, Stop
from modelyard.pool.process import RunnerProcess

if TYPE_CHECKING:
    from modelyard.pool.job import Job
    from modelyard.pool.pool import Pool

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
QUICK_RETRIES = 2

Cause = Literal["crashed", "killed", "hung", "load_failed"]

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""How a runner ends that somebody else ended: an operator, or the kernel when memory is short."""


class Ending(NamedTuple):
    """How a runner ended."""

    cause: Cause
    how: str
    was_ready: bool = False


class Slot:
    """One runner's place."""

    def __init__(self, pool: Pool, *, folder: Path, manifest: Manifest) -> None:
        self.jobs: list[Job] = []  # that its runner runs
        self.ahead: list[Job] = []  # that it has already, to run next
        self.took_s = math.inf  # its last batch
        self.hung_at = 0.0
        self.idle_since = 0.0
        self.is_ready = False
        self._pool = pool
        self._folder = folder
        self._manifest = manifest
        self._process: RunnerProcess | None = None
        self.started = 0.0
        self._is_hung = False
        self._leaving = asyncio.Event()

    def run(self, jobs: list[Job]) -> None:
        """Hand a batch to the runner, which must be idle."""
        assert not self.jobs
        self.jobs, self.started = jobs, time.monotonic()
        self._send(jobs, [])

    def run_next(self, jobs: list[Job]) -> None:
        """Hand a batch to the runner while it runs one. It drops what is late by then."""
        assert self.jobs and not self.ahead
        self.ahead = jobs
        self._send(jobs, [job.deadline for job in jobs])

    def _send(self, jobs: list[Job], deadlines: list[float]) -> None:
        assert self._process is not None
        requests = [job.call.request for job in jobs]
        is_plain = all(request.form == "json" for request in requests)
        forms = [] if is_plain else [request.form for request in requests]
        self._process.send(Batch([request.input for request in requests], forms, deadlines))

    def kill_hung(self) -> None:
        """End the runner in the middle of its batch."""
        assert self._process is not None
        self._is_hung = True
        self._process.kill()

    def stop(self, grace_s: float) -> None:
        """Let the runner unload and end; kill it after the grace; leave the slot empty."""
        if self._leaving.is_set():
            return
        self._leaving.set()
        if self._process is None:
            return
        if self.is_ready:
            self.is_ready = False
            self._process.send(Stop())
            asyncio.get_running_loop().call_later(grace_s, self._process.kill)
        else:
            self._process.kill()

    async def keep_running(self) -> None:
        """Keep a runner in the slot until ``stop``.

        One that had been ready is replaced at once. One that ended while it loaded, as when it was
        killed, is tried again twice without a pause before the load counts as failed.
        """
        failures = 0
        while not self._leaving.is_set():
            ending = await self._run_one()
            failures = 0 if ending.was_ready else failures + 1
            is_failed = ending.cause == "load_failed" or failures > QUICK_RETRIES
            cause = "load_failed" if is_failed else ending.cause
            jobs, ahead = self.jobs, self.ahead
            self.jobs, self.ahead = [], []
            if jobs or not self._leaving.is_set():
                self._pool.on_lost(self, jobs, ahead, cause=cause, how=ending.how)
            if is_failed:
                backoff_s = min(FIRST_BACKOFF_S * 2 ** (failures - 1), LONGEST_BACKOFF_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), backoff_s)
        self._pool.on_left(self)

    async def _run_one(self) -> Ending:
        """Start a runner, see it to its end, and tell of that."""
        try:
            process = await RunnerProcess.start(
                self._folder,
                self._manifest,
                on_answers=self._on_answers,
                on_closed=self._on_closed,
            )
        except OSError as error:
            return Ending("load_failed", str(error))
        self._process, self._is_hung = process, False
        ended = asyncio.create_task(process.wait())
        try:
            if self._leaving.is_set():
                return Ending("crashed", "")
            problem = await self._open(process, ended)
            if problem is not None:
                return problem
            code = await ended
            cause: Cause = "killed" if code in FROM_OUTSIDE else "crashed"
            return Ending("hung" if self._is_hung else cause, _describe(code), was_ready=True)
        finally:
            self._process, self.is_ready = None, False
            process.kill()
            await ended

    async def _open(self, process: RunnerProcess, ended: asyncio.Task[int]) -> Ending | None:
        """Wait for the model to load, and take it into service; gives what went wrong."""
        limit_s = self._manifest.limits.load_timeout_s
        waits: list[asyncio.Future[Any]] = [process.opened, ended]
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if process.opened.cancelled():
            how = f"the runner ended while it loaded the model: {_describe(await ended)}"
            return Ending("crashed", how)
        if not process.opened.done():
            return Ending("load_failed", f"loading took longer than load_timeout_s = {limit_s:g}")
        outcome = process.opened.result()
        if isinstance(outcome, LoadFailed):
            return Ending("load_failed", outcome.reason)
        self.is_ready, self.idle_since = True, time.monotonic()
        problem = self._pool.on_ready(self, outcome)
        if problem:
            self.is_ready = False
            return Ending("load_failed", problem)
        return None

    def _on_closed(self) -> None:
        self.is_ready = False  # it takes no batch ahead either
        self._pool.on_closed(self)

    def _on_answers(self, answers: Answers) -> None:
        now = time.monotonic()
        jobs, self.jobs, self.ahead = self.jobs, self.ahead, []
        self.took_s = now - self.started
        self.started = self.idle_since = now
        self._pool.on_answers(self, jobs, answers)


def _describe(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
