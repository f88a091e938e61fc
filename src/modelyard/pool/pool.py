"""The pool: requests wait here, run in batches, and are answered whatever happens to the runners.

Path of a request: a transport calls ``submit``; ``_feed`` hands batches to the runners through
``slot.py``; ``on_answers`` settles the calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.manifest import Manifest
from modelyard.core.messages import SERVING, Announcement, Answers, Ready
from modelyard.pool.blame import Patience
from modelyard.pool.concurrent import ConcurrentSlot
from modelyard.pool.endings import Lost
from modelyard.pool.interfaces import CANCEL_GRACE_S, Launch, PoolMetrics, TellProgress, tell_nobody
from modelyard.pool.outcomes import Outcomes
from modelyard.pool.runners import Runners
from modelyard.pool.serial import SerialSlot
from modelyard.pool.slot import Slot
from modelyard.pool.spans import PoolSpans
from modelyard.pool.specials import Errands, Specials
from modelyard.pool.waiting import Waiting

log = logging.getLogger(__name__)

TICK_S = 0.05
AHEAD_S = (0.002, 0.05)
"""If the model took so long for the last batch, the next is handed over while one runs."""


class Pool:
    """Runs the requests of one target.

    Args:
        folder: The model's folder.
        manifest: What its ``model.toml`` says.
        metrics: Receives counts and times.
        announce: Called with the target's announcement at every change.
        launch: Starts a runner.
        clock: Deadlines are readings of it.
        log_name: Where callers are told to look for what an exception says.
        may_sleep: Whether no runner is kept for a model that nobody asks, if its manifest says
            ``scale_to_zero``. The first request then waits for one.
        spans: Records traced calls; None if there are none.
        cancel_grace_s: How long a runner may go on with jobs that were cancelled.
        tell_progress: Told how far the model is with some calls, if it says so.
        errands: Fetches and puts away objects of jobs; None if there is no place for them.
    """

    def __init__(
        self,
        *,
        folder: Path,
        manifest: Manifest,
        metrics: PoolMetrics,
        announce: Callable[[Announcement], None],
        launch: Launch,
        clock: Clock,
        log_name: str = "the server's log",
        may_sleep: bool = False,
        spans: PoolSpans | None = None,
        cancel_grace_s: float = CANCEL_GRACE_S,
        tell_progress: TellProgress = tell_nobody,
        errands: Errands | None = None,
    ) -> None:
        self.manifest, self.target = manifest, manifest.target
        self.on_progress = tell_progress
        self._clock = clock
        self._patience = Patience(most_s=manifest.limits.timeout_s)
        self._outcomes = Outcomes(
            self.target, metrics=metrics, patience=self._patience, clock=clock
        )
        self._waiting = Waiting(manifest.batching, on_late=self._outcomes.expire)
        self._outcomes.wait_again = self._wait
        self._specials = Specials(manifest, errands)
        kind = ConcurrentSlot if manifest.batching.concurrency else SerialSlot

        def make_slot() -> Slot:
            return kind(
                self,
                folder=folder,
                manifest=manifest,
                launch=launch,
                clock=clock,
                patience=self._patience,
                metrics=metrics,
                spans=spans,
                specials=self._specials,
                cancel_grace_s=cancel_grace_s,
            )

        self._runners = Runners(
            manifest,
            make_slot=make_slot,
            announce=announce,
            log_name=log_name,
            may_sleep=may_sleep and manifest.scaling.scale_to_zero,
            takes_errands=errands is not None,
            clock=clock,
        )
        self._is_feeding = self._is_ticking = False
        self._feeds_ahead = kind is SerialSlot and manifest.scaling.max_runners == 1

    async def __aenter__(self) -> Pool:
        self._loop = asyncio.get_running_loop()
        self._runners.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self._runners.left()

    def keep_warm(self, *, is_warm: bool) -> None:
        """See ``Runners``."""
        self._runners.keep_warm(is_warm=is_warm)
        if not self._is_ticking:
            self._tick()

    def stop(self) -> None:
        """Refuse what waits and what comes, and let the runners end, without waiting for them."""
        if self._runners.state != "stopped":
            self._runners.stop()
            self._refuse_waiting()

    @property
    def digest(self) -> str:
        """Digest of the model folder; empty until the model is loaded."""
        return self._runners.ready.digest if self._runners.ready else ""

    @property
    def instance_s(self) -> float:
        """What an instance takes in a full batch, in seconds; 0 before the first batch."""
        return (
            self._outcomes.pace.seconds_per_instance(self.manifest.batching.max_batch_size) or 0.0
        )

    @property
    def failed_loads(self) -> int:
        """How many loads in a row have failed."""
        return self._runners.failed_loads

    @property
    def wanted_bundles(self) -> int:
        """How many bundles to prefetch; see ``Runners``."""
        return self._runners.wanted_bundles

    def submit(self, call: Call, *, is_suspect: bool = False) -> None:
        """Queue a call for a runner; the pool settles it.

        A suspect runs alone, because it may have ended the process that ran it before. A call that
        is settled meanwhile does not run, or if it does its batch-mates are not affected.
        """
        if self._runners.state in ("failed", "stopped"):
            call.settle(self._runners.why_not())
            return
        if call.is_special and not self._specials.take(call, self.submit, is_suspect=is_suspect):
            return
        call.arrived = self._clock()
        self._wait(call, is_suspect=is_suspect)
        if not self._runners.slots:
            self._runners.add()
        self._wake()

    async def settled(self) -> None:
        """Wait until the first load has succeeded or failed."""
        await self._runners.wait_while(lambda state: state == "starting")

    async def wait_until(self, *, is_serving: bool) -> None:
        """Wait until the target serves, or until it does not."""
        await self._runners.wait_while(lambda state: (state in SERVING) is not is_serving)

    async def drained(self) -> None:
        """Wait until nothing waits or runs: for a pool that gets no more calls."""
        while self._waiting or self._runners.is_busy:  # noqa: ASYNC110 (it is looked at rarely)
            await asyncio.sleep(TICK_S)

    # From what waits to the runners.

    def _wake(self) -> None:
        """Feed at the end of this turn of the loop: calls that arrive in it run together."""
        if not self._is_feeding:
            self._is_feeding = True
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        self._is_feeding = False
        now, runners = self._clock(), self._runners
        while runners.idle and (batch := self._waiting.next_batch(now)):
            runners.idle.pop().run(batch)
        if runners.idle and (left_s := self._waiting.fill_left_s(now)) > 0:
            self._loop.call_later(left_s, self._wake)
        if self._feeds_ahead and runners.slots:
            self._feed_ahead(runners.slots[0], now)
        if not self._is_ticking and (self._waiting or runners.is_busy):
            self._is_ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def _feed_ahead(self, slot: Slot, now: float) -> None:
        """Hand the only runner a second, full batch while it runs one: a model of 20 ms per batch
        then waits 0.2 ms between batches, not 0.5 ms. Not for longer ones, for both of which an
        urgent request would wait, nor for shorter ones, which gain nothing. The model's own time
        counts: where this process waits for a processor, the runner needs it all the more.
        """
        is_free = slot.is_ready and slot.batch and not slot.ahead
        is_worth_it = is_free and AHEAD_S[0] <= slot.model_s <= AHEAD_S[1]
        if is_worth_it and (batch := self._waiting.full_batch(now)):
            slot.run_next(batch)

    def _wait(self, call: Call, *, is_suspect: bool = False) -> None:
        self._waiting.add(call, is_suspect=is_suspect)
        if is_suspect:
            self._look_for_room()  # which there is not beside others

    def _look_for_room(self) -> None:
        for slot in self._runners.slots:
            slot.look_for_room()

    def _after_batch(self) -> None:
        if self._waiting:
            self._wake()

    # What the slots report.

    def on_answers(self, slot: Slot, batch: list[Call], answers: Answers) -> None:
        """Settle the calls of a finished batch, and feed the runner again."""
        if not slot.batch:
            self._runners.idle.append(slot)
            if self._waiting.is_full_batch:
                self._feed()  # the next batch is full: let the model run while we settle this one
                os.sched_yield()  # let the runner start if it shares our core: 1 % of 20 ms
        self._outcomes.settle(slot, batch, answers)
        self._after_batch()

    def on_done(self, slot: Slot, batch: list[Call], answers: Answers) -> None:
        """Settle the calls of one of the batches that a runner has under way."""
        self._outcomes.settle(slot, batch, answers)
        self._after_batch()

    def on_room(self, slot: Slot, *, has_room: bool) -> None:
        """Hand a runner that has batches under way another one, as long as it has room."""
        idle = self._runners.idle
        if has_room and slot not in idle:
            idle.insert(0, slot)
            self._after_batch()
        elif not has_room and slot in idle:
            idle.remove(slot)

    @property
    def has_suspects(self) -> bool:
        """Whether calls wait that must run apart."""
        return self._waiting.has_suspects

    def is_suspect(self, call: Call) -> bool:
        """Return whether a call that was just taken is one of them."""
        return self._waiting.is_suspect(call)

    def on_step(self, text: str) -> None:
        """Say what a start waits for."""
        self._runners.waits_for(text)

    def on_ready(self, slot: Slot, ready: Ready) -> str:
        """Take a loaded runner into service; returns why not, or an empty string."""
        problem = self._runners.took_up(slot, ready)
        if not problem:
            self._patience.returned(ready.warm_up_s)
            self._wake()
        return problem

    def on_closed(self, slot: Slot) -> None:
        """Hand no more batches to a runner whose channel is closed."""
        self._runners.closed(slot)

    def on_lost(self, slot: Slot, lost: Lost) -> None:
        """Assign blame for a runner's end, retry, log. What it had not begun is not to blame."""
        self._runners.closed(slot)
        if self._runners.state == "stopped":
            for call in [*lost.batch, *lost.ahead]:
                call.settle(self._runners.why_not())
            return
        self._outcomes.lose(slot, lost)
        for call in lost.ahead:
            self._waiting.add(call)
        self._runners.lost(slot, lost)
        if self._runners.state == "failed":
            self._refuse_waiting()
        self._after_batch()

    def on_left(self, slot: Slot) -> None:
        """Forget a runner that has ended as it should."""
        self._runners.emptied(slot, is_work_waiting=bool(self._waiting))

    def _refuse_waiting(self) -> None:
        for call in list(self._waiting):
            call.settle(self._runners.why_not())

    def _tick(self) -> None:
        """Drop late calls, end hung and unwanted runners, scale; runs only while there is work."""
        self._is_ticking = False
        now, runners = self._clock(), self._runners
        runners.end_overdue(now)
        self._waiting.drop_late(now)
        self._look_for_room()  # there may be some since a suspect runs elsewhere, or is late
        self._outcomes.expire([call for slot in runners.slots for call in slot.late(now)])
        waited_s, is_waiting = self._waiting.oldest_wait_s(now), bool(self._waiting)
        runners.scale(now, oldest_wait_s=waited_s, is_work_waiting=is_waiting)
        if self._waiting or runners.is_busy or runners.surplus > 0:
            self._is_ticking = True
            self._loop.call_later(TICK_S, self._tick)
