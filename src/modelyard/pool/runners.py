"""The runners of one target: scaling them, deriving the target's state, and announcing it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from modelyard.core.clock import Clock
from modelyard.core.errors import ModelNotReady, RequestError, ShuttingDown
from modelyard.core.manifest import Manifest
from modelyard.core.messages import SERVING, Announcement, Ready, State
from modelyard.pool.endings import Lost
from modelyard.pool.slot import Slot

log = logging.getLogger(__name__)

SLOW_S = 0.03  # from this warm-up time on, the latency of the broker is negligible
GROW_AGAIN_S = 30.0  # after an extra runner could not be started, as for want of a device
GROW_AFTER_S = 0.1  # start another runner if a request has waited this long and none is free


class Runners:
    """Owns the slots, scales them, and announces the target.

    Args:
        manifest: The model's.
        make_slot: Returns a new slot.
        announce: Called with the target's announcement at every change.
        log_name: Where callers are told to look for what an exception says.
        may_sleep: Whether to honour ``scale_to_zero``.
        takes_errands: Whether large inputs and results of jobs may go by name.
        clock: Idle times are readings of it.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        make_slot: Callable[[], Slot],
        announce: Callable[[Announcement], None],
        log_name: str,
        may_sleep: bool,
        takes_errands: bool,
        clock: Clock,
    ) -> None:
        self.slots: list[Slot] = []
        self.idle: list[Slot] = []
        self.state: State = "asleep" if may_sleep else "starting"
        self.ready: Ready | None = None
        self.failed_loads = 0  # in a row
        self._manifest = manifest
        self._target = manifest.target
        self._make_slot = make_slot
        self._announce = announce
        self._log_name = log_name
        self._may_sleep = may_sleep
        self._takes_errands = takes_errands
        self._clock = clock
        self._least = 0 if may_sleep else manifest.scaling.min_runners
        self._is_warm = False
        self._grows_from = 0.0
        self._reason = self._full_reason = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Announce the target, and start its ``min_runners``."""
        self.publish()
        for _ in range(self._least):
            self.add()

    def add(self) -> None:
        """Start one more."""
        slot = self._make_slot()
        self.slots.append(slot)
        task = asyncio.create_task(slot.keep_running())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.publish()

    def keep_warm(self, *, is_warm: bool) -> None:
        """Keep the runners that are up, and one at least, though nobody asks; or no longer."""
        if is_warm == self._is_warm:
            return
        self._is_warm = is_warm
        if is_warm and not self.slots and self.state != "stopped":
            self.add()

    def stop(self) -> None:
        """Let all runners unload and end; ``left`` waits for that."""
        self.enter("stopped")
        for slot in self.slots:
            slot.stop()

    async def left(self) -> None:
        """Wait until all runners have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def wait_while(self, is_so: Callable[[State], bool]) -> None:
        """Wait while ``is_so`` holds for the target's state."""
        while is_so(self.state):
            self._changed.clear()
            await self._changed.wait()

    @property
    def is_busy(self) -> bool:
        """Whether any runner runs a batch."""
        return any(slot.batch for slot in self.slots)

    @property
    def surplus(self) -> int:
        """Number of slots beyond ``min_runners``."""
        return len(self.slots) - self._least

    def why_not(self) -> RequestError:
        """Return the error for a request that comes while the target does not serve."""
        if self.state == "stopped":
            return ShuttingDown(f"{self._target} is shutting down")
        return ModelNotReady(f"{self._target} has failed to load: {self._reason}")

    # What slots report.

    def waits_for(self, text: str) -> None:
        """Say why the target is still starting; ``""`` for no reason that is worth a word."""
        if self.state == "starting" and text != self._reason:
            self._reason = text
            self.publish()

    def took_up(self, slot: Slot, ready: Ready) -> str:
        """Take a loaded runner into service; returns why not, or an empty string."""
        is_changed = self.ready is not None and ready.digest != self.ready.digest
        is_alone = not any(other.is_ready for other in self.slots if other is not slot)
        if is_changed and not (self._may_sleep and is_alone):
            return "the model folder has changed since it was first loaded; restart to serve it"
        self.ready = ready
        self.failed_loads = 0
        self.idle.append(slot)
        self.enter("ready")
        return ""

    def closed(self, slot: Slot) -> None:
        """Note that a runner takes no more batches."""
        if slot in self.idle:
            self.idle.remove(slot)

    def lost(self, slot: Slot, lost: Lost) -> None:
        """Note that a runner ended unexpectedly; its slot starts another."""
        self.failed_loads, cause = lost.failed_loads, lost.cause
        told = f"{lost.told}; see {self._log_name}" if lost.told else lost.how
        state: State = "failed" if cause == "load_failed" else "recovering"
        self.enter(state, reason=told, full_reason=lost.how if lost.told else "")
        if cause == "load_failed" and len(self.slots) > max(1, self._least):
            slot.stop()  # an extra runner that cannot load: do not retry it for ever
            self._grows_from = self._clock() + GROW_AGAIN_S

    def emptied(self, slot: Slot, *, is_work_waiting: bool) -> None:
        """Drop a slot whose runner ended as requested."""
        self.closed(slot)
        self.slots.remove(slot)
        if self._may_sleep and not self.slots and self.state != "stopped":
            self.state = "asleep"
            if is_work_waiting:  # a request came while the last runner ended
                self.add()
        self.publish()

    @property
    def wanted_bundles(self) -> int:
        """How many bundles to prefetch: those that run, and those of the next batches.

        With more bundles at hand a runner never waits for the broker, and its batches are full even
        if the bundles are small. But if batches are slow, a request that waits here might have run
        on another worker already.
        """
        runners = self._manifest.scaling.max_runners
        if concurrency := self._manifest.batching.concurrency:
            return runners * concurrency + 1
        if self._manifest.batching.max_batch_size > 1:
            return 2 * (runners + 1)  # a batch may combine several bundles
        is_slow = self.ready is not None and self.ready.warm_up_s >= SLOW_S
        return runners + (not is_slow)

    def end_overdue(self, now: float) -> None:
        """End runners that hang, and those that go on with what was cancelled."""
        for slot in self.slots:
            if slot.is_hung(now):
                slot.end("hung")
            elif slot.is_unwanted(now):
                slot.end("cancelled")

    # Scaling.

    def scale(self, now: float, *, oldest_wait_s: float, is_work_waiting: bool) -> None:
        """Start a runner if requests wait; stop one that has been idle for ``idle_s``."""
        if self.state == "stopped":
            return
        if is_work_waiting:
            is_starting = any(not slot.is_ready for slot in self.slots)
            is_room = len(self.slots) < self._manifest.scaling.max_runners
            is_due = oldest_wait_s >= GROW_AFTER_S and now >= self._grows_from
            if is_due and is_room and not is_starting:
                log.info("pool_grows", extra={"model": str(self._target)})
                self.add()
        elif self.surplus > 0 and not self._is_warm:
            self._shrink(now)

    def _shrink(self, now: float) -> None:
        if sum(slot.is_ready for slot in self.slots) <= self._least:
            return
        for slot in self.idle:
            if now - slot.idle_since >= self._manifest.scaling.idle_s:
                log.info("pool_shrinks", extra={"model": str(self._target)})
                self.idle.remove(slot)
                slot.stop()
                return

    # The target's state.

    def enter(self, state: State, *, reason: str = "", full_reason: str = "") -> None:
        """Enter ``state``, unless other runners contradict it. "stopped" is final."""
        if self.state == "stopped":
            return
        if state in ("recovering", "failed") and any(slot.is_ready for slot in self.slots):
            state = "ready"
        elif state == "recovering" and self.state != "ready":
            state = self.state
        is_down = state in ("failed", "recovering")
        self.state = state
        self._reason, self._full_reason = (reason, full_reason) if is_down else ("", "")
        self.publish()

    def publish(self) -> None:
        """Announce the current state."""
        manifest, ready = self._manifest, self.ready
        self._announce(
            Announcement(
                target=self._target,
                state=self.state,
                description=manifest.description,
                limits=manifest.limits,
                cache_ttl_s=manifest.cache.ttl_s,
                max_batch_size=manifest.batching.max_batch_size,
                scale_to_zero=manifest.scaling.scale_to_zero,
                is_default=manifest.default,
                target_wait_s=manifest.target_wait_s,
                runners=len(self.slots),
                runners_ready=sum(slot.is_ready for slot in self.slots),
                digest=ready.digest if ready else "",
                schema=ready.schema if ready else None,
                concurrency=manifest.batching.concurrency,
                reason=self._reason,
                full_reason=self._full_reason,
                calls=tuple(manifest.calls.models),
                takes_errands=self._takes_errands,
            )
        )
        self._changed.set()

    @property
    def is_serving(self) -> bool:
        """Whether the target takes requests."""
        return self.state in SERVING
