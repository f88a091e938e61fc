"""The pool: requests wait here, run in batches, and come back answered whatever happens to runners.

On the way of a request: a transport calls ``submit``; ``_feed`` hands batches to runners
(``pool/slot.py`` is the pool's view of one); ``on_answers`` gives the outcomes to whoever waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from modelyard.core.batch import Backlog
from modelyard.core.call import Call
from modelyard.core.errors import (
    DeadlineExceeded,
    Failure,
    ModelCrashed,
    ModelNotReady,
    RequestError,
    ShuttingDown,
    from_failure,
)
from modelyard.core.manifest import Manifest
from modelyard.core.messages import SERVING, Announcement, Answers, Ready, Schema, State
from modelyard.pool.job import Job, PoolMetrics
from modelyard.pool.slot import Cause, Slot

log = logging.getLogger(__name__)

TICK_S = 0.05
GROW_AFTER_S = 0.1  # something has waited this long and no runner is free: start another
SLOW_S = 0.03  # beside that, the way from the broker is nothing
AHEAD_S = (0.002, 0.05)  # if the last batch took so long, the next is handed over while one runs
HANG_GRACE_S = 1.0
UNLOAD_GRACE_S = 5.0

BLAME: dict[Cause, int] = {"crashed": 2, "killed": 1}
GUILTY = 4
"""A request is given up when its runners crashed twice, or were killed from outside four times:
that may be bad luck, or the kernel that had no more memory for this input.
"""


class Pool:
    """Runs the requests of one target.

    Args:
        folder: The model's folder.
        manifest: What its ``model.toml`` says.
        metrics: Told of what happens.
        announce: Called with what the catalog should know, at every change.
        may_sleep: Whether no runner is kept for a model that nobody asks, if its manifest says
            ``scale_to_zero``. The first request then waits for one.
    """

    def __init__(
        self,
        *,
        folder: Path,
        manifest: Manifest,
        metrics: PoolMetrics,
        announce: Callable[[Announcement], None],
        may_sleep: bool = False,
    ) -> None:
        self.manifest = manifest
        self.target = manifest.target
        self._folder = folder
        self._metrics = metrics
        self._announce = announce
        self._backlog: Backlog[Job] = Backlog()
        self._suspects: deque[Job] = deque()
        self._slots: list[Slot] = []
        self._idle: list[Slot] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: Ready | None = None
        scaling = manifest.scaling
        self._may_sleep = may_sleep and scaling.scale_to_zero
        self._least = 0 if self._may_sleep else scaling.min_runners
        self._state: State = "asleep" if self._may_sleep else "starting"
        self._reason = ""
        self._longest_batch_s = self._patience_s = 0.0
        self._is_feeding = self._is_ticking = self._suspects_turn = False
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Pool:
        self._loop = asyncio.get_running_loop()
        self.publish()
        for _ in range(self._least):
            self._add_slot()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Take no more, refuse what waits, let the runners unload and end; ``__aexit__`` waits."""
        if self._state == "stopped":
            return
        self._set_state("stopped")
        for job in [*self._backlog, *self._suspects]:
            job.call.settle(ShuttingDown(f"{self.target} is shutting down"))
        for slot in self._slots:
            slot.stop(UNLOAD_GRACE_S)

    @property
    def digest(self) -> str:
        """That of the model folder; empty until it is loaded."""
        return self._ready.digest if self._ready else ""

    @property
    def wanted_bundles(self) -> int:
        """How many bundles should be here: those that run, and those of the next batches.

        A runner then does not wait for them, and its batches are full though several gateways'
        bundles are small. But where each request takes its time by itself, whoever waits here could
        be running elsewhere.
        """
        runners = self.manifest.scaling.max_runners
        if self.manifest.batching.max_batch_size > 1:
            return 2 * (runners + 1)  # a batch may be of several bundles
        is_slow = self._ready is not None and self._ready.warm_up_s >= SLOW_S
        return runners + (not is_slow)

    def submit(self, call: Call, *, is_suspect: bool = False) -> None:
        """Let a call wait for a runner, which settles it.

        A suspect runs alone: it may have ended the process that had it before. Settle the call to
        drop it: if it waits it will not run, and if it runs nobody else is disturbed.
        """
        if self._state in ("failed", "stopped"):
            call.settle(self._not_ready())
            return
        job = Job(call, time.monotonic())
        if is_suspect:
            self._suspects.append(job)
        else:
            self._backlog.add(job)
        if not self._slots:
            self._add_slot()
        self._wake()

    async def settled(self) -> None:
        """Wait until the first load has ended, well or not."""
        while self._state == "starting":
            await self._next_change()

    async def wait_until(self, *, is_serving: bool) -> None:
        """Wait until the model can be asked, or until it cannot."""
        while (self._state in SERVING) is not is_serving:
            await self._next_change()

    def publish(self) -> None:
        """Tell the catalog what is true now."""
        limits, ready = self.manifest.limits, self._ready
        self._announce(
            Announcement(
                target=self.target,
                state=self._state,
                description=self.manifest.description,
                limits=limits,
                cache_ttl_s=self.manifest.cache.ttl_s,
                max_batch_size=self.manifest.batching.max_batch_size,
                scale_to_zero=self.manifest.scaling.scale_to_zero,
                runners=len(self._slots),
                runners_ready=sum(slot.is_ready for slot in self._slots),
                digest=self.digest,
                schema=Schema(ready.input_schema, ready.output_schema, ready.example)
                if ready
                else None,
                reason=self._reason,
            )
        )
        self._changed.set()

    # From the backlog to the runners.

    def _wake(self) -> None:
        """Feed once this turn of the loop is over, so that all that arrive in it run together."""
        if not self._is_feeding:
            self._is_feeding = True
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        self._is_feeding = False
        now = time.monotonic()
        while self._idle and (jobs := self._next_batch(now)):
            slot = self._idle.pop()
            slot.run(jobs)
            self._on_begun(slot)
        if self._slots and self.manifest.scaling.max_runners == 1:
            self._feed_ahead(self._slots[0], now)
        if not self._is_ticking and (self._backlog or self._suspects or self._busy()):
            self._is_ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def _feed_ahead(self, slot: Slot, now: float) -> None:
        """Hand the only runner a full batch while it runs one: a model of 20 ms then waits 0.2 ms
        for its next batch, not 0.5.

        Not where batches are longer, for what is urgent and comes later has to wait for both; nor
        where they are so short that this gains nothing. And only where no other runner could take
        it, for this one may hang.
        """
        size = self.manifest.batching.max_batch_size
        is_free = slot.is_ready and slot.jobs and not slot.ahead
        is_worth_it = AHEAD_S[0] <= slot.took_s <= AHEAD_S[1]
        if not (is_free and is_worth_it) or self._suspects or self._backlog.instances < size:
            return
        jobs, expired = self._backlog.take(max_instances=size, now=now)
        self._expire(expired)
        if jobs:
            slot.run_next(jobs)

    def _on_begun(self, slot: Slot) -> None:
        """Note that a runner has begun with its batch."""
        begun = slot.started
        # What was late by then is not run: it hurries nobody.
        first = min((job.deadline for job in slot.jobs if job.deadline > begun), default=begun)
        # A batch is hung when someone's deadline has passed and it takes longer than any before it
        # by more than the grace: so the others of the batch can still be answered in time.
        normal_s = max(self._longest_batch_s, self._patience_s)
        slot.hung_at = first + HANG_GRACE_S + normal_s
        self._metrics.batch_started([begun - job.arrived for job in slot.jobs])

    def _next_batch(self, now: float) -> list[Job]:
        """Take what should run next: suspects alone, in turn with ordinary batches."""
        self._suspects_turn = not self._suspects_turn
        if self._suspects_turn:
            return self._next_suspect(now) or self._next_ordinary(now)
        return self._next_ordinary(now) or self._next_suspect(now)

    def _next_suspect(self, now: float) -> list[Job]:
        while self._suspects:
            suspect = self._suspects.popleft()
            if suspect.is_gone:
                continue
            if suspect.deadline > now:
                return [suspect]
            self._expire([suspect])
        return []

    def _next_ordinary(self, now: float) -> list[Job]:
        if not self._backlog or self._is_filling(now):
            return []
        batch, expired = self._backlog.take(
            max_instances=self.manifest.batching.max_batch_size, now=now
        )
        self._expire(expired)
        return batch

    def _is_filling(self, now: float) -> bool:
        """Tell whether the batch may wait for more (``batch_wait_ms``), and look again then."""
        wait_s = self.manifest.batching.batch_wait_ms / 1000
        if not wait_s or self._backlog.instances >= self.manifest.batching.max_batch_size:
            return False
        left = min(job.arrived for job in self._backlog) + wait_s - now
        if left <= 0:
            return False
        self._loop.call_later(left, self._wake)
        return True

    def _expire(self, jobs: list[Job]) -> None:
        """Answer those of the late for whom somebody still waits."""
        waiting = [job for job in jobs if not job.is_gone]
        for job in waiting:
            job.call.settle(
                DeadlineExceeded("the deadline passed while the request waited for a runner")
            )
        if waiting:
            self._metrics.expired(len(waiting))

    # From the runners to those who wait. Called by the slots.

    def on_answers(self, slot: Slot, jobs: list[Job], answers: Answers) -> None:
        """Settle a batch that ran to its end, and use the runner again."""
        self._longest_batch_s = max(self._longest_batch_s, slot.took_s)
        self._patience_s = 0.0
        if slot.jobs:
            self._on_begun(slot)
        else:
            self._idle.append(slot)
            if len(self._backlog) >= self.manifest.batching.max_batch_size:
                self._feed()  # no batch could be fuller: let the model work while we tell who waits
                os.sched_yield()  # on a busy core the runner would wait for us: 1 % of 20 ms
        for job, outcome in zip(jobs, answers.outcomes, strict=True):
            call = job.call
            if isinstance(outcome, Failure) and outcome.code == DeadlineExceeded.code:  # not run
                self._expire([job])
            elif job.is_gone:
                self._metrics.came_late()
            elif isinstance(outcome, Failure):
                if outcome.code == "model_failed":
                    log.warning(
                        "model_failed", extra={"model": str(self.target), "id": call.request.id}
                    )
                call.settle(from_failure(outcome))
            else:
                call.settle(outcome)
        self._metrics.batch_answered(answers)
        self._after_batch()

    def on_ready(self, slot: Slot, ready: Ready) -> str:
        """Take a loaded runner into service; gives a reason if it cannot be."""
        is_changed = self._ready is not None and ready.digest != self._ready.digest
        is_alone = not any(other.is_ready for other in self._slots if other is not slot)
        if is_changed and not (self._may_sleep and is_alone):
            return "the model folder has changed since it was first loaded; restart to serve it"
        self._ready = ready
        self._longest_batch_s = max(self._longest_batch_s, ready.warm_up_s)
        self._idle.append(slot)
        self._set_state("ready")
        self._wake()
        return ""

    def on_closed(self, slot: Slot) -> None:
        """Hand nothing more to a runner that cannot take it; ``on_lost`` or ``on_left`` follows."""
        if slot in self._idle:
            self._idle.remove(slot)

    def on_lost(
        self, slot: Slot, jobs: list[Job], ahead: list[Job], *, cause: Cause, how: str
    ) -> None:
        """Deal with a runner's end: blame, retry, and say so. ``ahead``, which it had not begun,
        is not to blame.
        """
        self.on_closed(slot)
        if self._state == "stopped":
            for job in [*jobs, *ahead]:
                job.call.settle(ShuttingDown(f"{self.target} is shutting down"))
            return
        self._metrics.runner_lost(cause)
        log.warning(
            "runner_lost",
            extra={
                "model": str(self.target),
                "cause": cause,
                "how": how,
                "ids": [job.call.request.id for job in jobs],
            },
        )
        now = time.monotonic()
        if cause == "hung":
            # It may have been merely slow, with an impatient caller: give the next one twice as
            # long, up to the time that the model says a request may take. A batch that comes to its
            # end shows how long they take.
            self._patience_s = min(2 * (now - slot.started), self.manifest.limits.timeout_s)
        for job in jobs:
            job.blame += BLAME.get(cause, 0)
            if job.deadline <= now:
                job.call.settle(DeadlineExceeded("the deadline passed while the model ran"))
            elif job.blame >= GUILTY:  # all but the first time it ran alone
                job.call.settle(
                    ModelCrashed(f"the request ended its runner again and again ({how})")
                )
            elif not job.is_gone:
                self._suspects.append(job)
        for job in ahead:
            self._backlog.add(job)
        self._set_state("failed" if cause == "load_failed" else "recovering", reason=how)
        if cause == "load_failed" and len(self._slots) > max(1, self._least):
            slot.stop(UNLOAD_GRACE_S)  # one that was to help, and cannot: not tried again and again
        self._after_batch()

    def on_left(self, slot: Slot) -> None:
        """Forget a runner that ended because it should."""
        self.on_closed(slot)
        self._slots.remove(slot)
        if self._may_sleep and not self._slots and self._state != "stopped":
            self._state = "asleep"
            if self._backlog or self._suspects:  # it came while the last runner left
                self._add_slot()
        self.publish()

    def _after_batch(self) -> None:
        if self._backlog or self._suspects:
            self._wake()

    # What is true of the pool, and what keeps it true.

    def _set_state(self, state: State, *, reason: str = "") -> None:
        """Enter ``state``, unless other runners make it untrue."""
        if state in ("recovering", "failed") and any(slot.is_ready for slot in self._slots):
            state = "ready"
        elif state == "recovering" and self._state != "ready":
            state = self._state
        self._state, self._reason = state, reason if state in ("failed", "recovering") else ""
        if state == "failed":
            for job in [*self._backlog, *self._suspects]:
                job.call.settle(self._not_ready())
        self.publish()

    def _not_ready(self) -> RequestError:
        if self._state == "stopped":
            return ShuttingDown(f"{self.target} is shutting down")
        return ModelNotReady(f"{self.target} has failed to load: {self._reason}")

    def _busy(self) -> bool:
        return any(slot.jobs for slot in self._slots)

    def _tick(self) -> None:
        """Look after what waits and what runs; only while there is any."""
        self._is_ticking = False
        now = time.monotonic()
        for slot in self._slots:
            if slot.jobs and now >= slot.hung_at:
                slot.kill_hung()
        self._expire(self._backlog.prune(now))
        ahead = (job for slot in self._slots for job in slot.ahead)
        late = [job for job in (*self._suspects, *ahead) if job.deadline <= now]
        if late:
            self._suspects = deque(job for job in self._suspects if job.deadline > now)
            self._expire(late)
        self._scale(now)
        if self._backlog or self._suspects or self._busy() or self._surplus() > 0:
            self._is_ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def _surplus(self) -> int:
        """How many slots there are more than must be, whatever is in them."""
        return len(self._slots) - self._least

    def _scale(self, now: float) -> None:
        if self._state == "stopped":
            return
        if self._backlog:
            waited = now - min(job.arrived for job in self._backlog)
            is_starting = any(not slot.is_ready for slot in self._slots)
            is_room = len(self._slots) < self.manifest.scaling.max_runners
            if waited >= GROW_AFTER_S and is_room and not is_starting:
                log.info("pool_grows", extra={"model": str(self.target)})
                self._add_slot()
        elif self._surplus() > 0:
            staying = sum(slot.is_ready for slot in self._slots)
            for slot in self._idle:
                is_spare = staying > self._least
                if is_spare and now - slot.idle_since >= self.manifest.scaling.idle_s:
                    log.info("pool_shrinks", extra={"model": str(self.target)})
                    self._idle.remove(slot)
                    slot.stop(UNLOAD_GRACE_S)
                    break

    def _add_slot(self) -> None:
        slot = Slot(self, folder=self._folder, manifest=self.manifest)
        self._slots.append(slot)
        task = asyncio.create_task(slot.keep_running())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.publish()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
