"""A slot of a pool: the place of one runner, refilled whenever the runner ends.

Here is how a runner is started, opened and ended. Two kinds of slots hand it calls, and keep them
so that none is lost with it: ``serial.py`` for models that answer one batch at a time, and
``concurrent.py`` for those that have several batches or streams under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.manifest import Manifest
from modelyard.core.messages import LoadFailed, Measured, Progress, Said, Stop
from modelyard.pool.blame import Cause, Patience
from modelyard.pool.endings import FROM_OUTSIDE, Ending, Lost, describe
from modelyard.pool.interfaces import Launch, PoolMetrics, Runner
from modelyard.pool.output import Line, log_line
from modelyard.pool.owner import SlotOwner
from modelyard.pool.repeats import Repeats
from modelyard.pool.spans import PoolSpans
from modelyard.pool.specials import Specials

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
QUICK_RETRIES = 2
SHORT_LIFE_S = 10.0  # a runner that ends so soon, with nothing to do, ends by itself
UNLOAD_GRACE_S = 5.0


class Slot(ABC):
    """One runner's place.

    Args:
        owner: Receives the runner's events.
        folder: The model's folder.
        manifest: The model's manifest.
        launch: Starts a runner.
        clock: Readings of it are compared with deadlines.
        patience: Says when a runner hangs.
        metrics: Receives counts and times.
        spans: Records traced calls; None if there are none.
        specials: Says whether there are jobs with errands.
        cancel_grace_s: How long a runner may go on with what was cancelled.

    Attributes:
        batch: The calls that run in its runner.
        ahead: Those that have been sent to the runner, to run next.
        took_s: The duration of the last batch.
        model_s: What of it was the model's.
    """

    def __init__(
        self,
        owner: SlotOwner,
        *,
        folder: Path,
        manifest: Manifest,
        launch: Launch,
        clock: Clock,
        patience: Patience,
        metrics: PoolMetrics,
        spans: PoolSpans | None,
        specials: Specials,
        cancel_grace_s: float,
    ) -> None:
        self.batch: list[Call] = []
        self.ahead: list[Call] = []
        self.started = 0.0
        self.took_s = math.inf
        self.model_s = 0.0
        self.idle_since = 0.0
        self.is_ready = False
        self._owner = owner
        self._folder = folder
        self._manifest = manifest
        self._launch = launch
        self._clock = clock
        self._patience = patience
        self._metrics = metrics
        self._spans = spans
        self._specials = specials
        self._cancel_grace_s = cancel_grace_s
        self._runner: Runner | None = None
        self._preparing: asyncio.Future[Runner] | None = None  # a start that may be cancelled
        self._killed_for: Cause | None = None
        self._is_loading = self._is_closed = False
        self._repeats = Repeats()
        self._leaving = asyncio.Event()

    @abstractmethod
    def run(self, batch: list[Call]) -> None:
        """Hand a batch to the runner, which has room for it."""

    def run_next(self, batch: list[Call]) -> None:
        """Hand the runner a second batch, to run next: only where it answers one at a time."""
        raise NotImplementedError

    @abstractmethod
    def is_hung(self, now: float) -> bool:
        """Return whether the runner should have answered long ago."""

    @abstractmethod
    def is_unwanted(self, now: float) -> bool:
        """Return whether all that it runs was cancelled, and it had its time to stop."""

    @abstractmethod
    def late(self, now: float) -> list[Call]:
        """Return the calls whose deadline has passed, of those that the runner need not finish."""

    @abstractmethod
    def _on_reply(self, reply: Any) -> None:
        """Receive what the runner answers."""

    def _take_all(self) -> tuple[list[Call], list[Call]]:
        """Give up what the runner had when it ended: what ran, and what it had not begun."""
        batch, ahead = self.batch, self.ahead
        self.batch, self.ahead = [], []
        return batch, ahead

    def look_for_room(self) -> None:  # noqa: B027  (an idle one has room)
        """Tell whether there is room for another batch beside those under way."""

    def end(self, cause: Cause) -> None:
        """Kill the runner in the middle of its batch."""
        assert self._runner is not None
        self._killed_for = cause
        self._runner.kill()

    def stop(self) -> None:
        """Let the runner unload and end, kill it after a grace period, and leave the slot empty."""
        if self._leaving.is_set():
            return
        self._leaving.set()
        if self._preparing is not None:
            self._preparing.cancel()
        if self._runner is None:
            return
        if self.is_ready:
            self.is_ready = False
            self._runner.send(Stop())
            asyncio.get_running_loop().call_later(UNLOAD_GRACE_S, self._runner.kill)
        else:
            self._runner.kill()

    async def keep_running(self) -> None:
        """Keep a runner in the slot until ``stop``.

        A runner that had been ready is replaced at once. If one ends while it loads, for example
        because it was killed, it is retried twice at once; after that the load counts as failed,
        and retries back off. So do those after a third runner in a row that crashed, soon after it
        was ready and with nothing to do.
        """
        failures = short_lives = 0
        while not self._leaving.is_set():
            ending = await self._run_one()
            failures = 0 if ending.was_ready else failures + 1
            is_failed = ending.cause == "load_failed" or failures > QUICK_RETRIES
            cause = "load_failed" if is_failed else ending.cause
            is_repeated = not ending.was_ready and self._repeats.failed(ending.how)
            batch, ahead = self._take_all()
            if ending.was_ready:
                is_short = ending.lived_s < SHORT_LIFE_S and cause == "crashed" and not batch
                short_lives = short_lives + 1 if is_short else 0
            backoff_s = 0.0
            if is_failed or short_lives > QUICK_RETRIES:
                doublings = failures - 1 if is_failed else short_lives - QUICK_RETRIES - 1
                backoff_s = min(math.ldexp(FIRST_BACKOFF_S, min(doublings, 10)), LONGEST_BACKOFF_S)
            if batch or not self._leaving.is_set():
                lost = Lost(
                    batch=batch,
                    ahead=ahead,
                    cause=cause,
                    how=ending.how,
                    told=ending.told,
                    failed_loads=failures,
                    is_repeated=is_repeated,
                    retry_s=backoff_s,
                    last_lines=ending.last_lines,
                )
                if self._spans is not None:
                    self._spans.lost(batch, ahead, began=self.started, how=ending.how)
                self._owner.on_lost(self, lost)
            if backoff_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), backoff_s)
        self._owner.on_left(self)

    async def _run_one(self) -> Ending:
        """Start a runner, wait until it ends, and return why it did."""
        self._is_loading = True
        try:
            runner = await self._start()
        except OSError as error:
            return Ending("load_failed", str(error))
        if runner is None:
            return Ending("crashed", "")
        self._runner, self._is_closed = runner, False
        ended = asyncio.create_task(runner.wait())
        try:
            if self._leaving.is_set():
                return Ending("crashed", "")
            problem = await self._open(runner, ended)
            if problem is not None:
                return problem
            ready_at = self._clock()
            code = await ended
            cause: Cause = "killed" if code in FROM_OUTSIDE else "crashed"
            return Ending(
                self._killed_for or cause,
                describe(code),
                was_ready=True,
                lived_s=self._clock() - ready_at,
                last_lines=tuple(runner.last_lines()),
            )
        finally:
            self._runner, self._killed_for, self.is_ready = None, None, False
            runner.kill()
            await ended
            self._metrics.runner_ended(id(self))

    async def _start(self) -> Runner | None:
        """Start a runner; returns None if the start was cancelled because the slot is leaving."""

        def on_step(text: str) -> None:
            self._preparing = starting if text else None
            self._owner.on_step(text)
            if self._leaving.is_set() and self._preparing is not None:
                self._preparing.cancel()

        starting = asyncio.ensure_future(
            self._launch(
                self._folder,
                self._manifest,
                on_reply=self._on_reply,
                on_closed=self._on_closed,
                on_line=self._on_line,
                on_said=self._on_said,
                on_step=on_step,
            )
        )
        try:
            return await starting
        except asyncio.CancelledError:
            if not self._leaving.is_set():
                raise
            return None
        finally:
            self._preparing = None

    async def _open(self, runner: Runner, ended: asyncio.Task[int]) -> Ending | None:
        """Wait for the model to load, and take it into service; returns how it failed, or None."""
        limit_s = self._manifest.limits.load_timeout_s
        waits: list[asyncio.Future[Any]] = [runner.opened, ended]
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if runner.opened.cancelled():
            how = f"the runner ended while it loaded the model: {describe(await ended)}"
            return Ending("crashed", how, last_lines=tuple(runner.last_lines()))
        if not runner.opened.done():
            return Ending("load_failed", f"loading took longer than load_timeout_s = {limit_s:g}")
        outcome = runner.opened.result()
        if isinstance(outcome, LoadFailed):
            return Ending("load_failed", outcome.reason, outcome.told)
        if self._is_closed:
            how = f"the runner ended as soon as it was ready: {describe(await ended)}"
            return Ending("crashed", how, last_lines=tuple(runner.last_lines()))
        self.is_ready, self.idle_since = True, self._clock()
        problem = self._owner.on_ready(self, outcome)
        if problem:
            self.is_ready = False
            return Ending("load_failed", problem)
        self._is_loading = False
        self._repeats.forget()
        return None

    def _on_line(self, line: Line) -> None:
        if self._is_loading and not self._repeats.is_news(line):
            return  # the last load failed with the same words
        ids = [call.request.id for call in self.batch]
        traces = [] if self._spans is None else self._spans.traces_of(self.batch)
        log_line(line, model=str(self._manifest.target), ids=ids, trace_ids=traces)

    def _on_said(self, said: Said) -> None:
        if isinstance(said, Measured):
            self._metrics.measured(id(self), said)
        else:
            self._on_progress(said)

    def _on_progress(self, progress: Progress) -> None:
        """Tell how far the runner is with what it runs."""
        self._owner.on_progress(self.batch, progress)

    def _on_closed(self) -> None:
        self.is_ready, self._is_closed = False, True  # so no batch is handed over ahead either
        self._owner.on_closed(self)
