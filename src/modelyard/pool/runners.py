"""The runners of one target: how many there are, in which state that puts the target, and telling
the catalog so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from modelyard.core.clock import Clock
from modelyard.core.errors import ModelNotReady, RequestError, ShuttingDown
from modelyard.core.manifest import Manifest
from modelyard.core.messages import SERVING, Announcement, Ready, State
from modelyard.pool.blame import Cause
from modelyard.pool.slot import Slot

log = logging.getLogger(__name__)

GROW_AFTER_S = 0.1  # a request has waited this long and no runner is free: start another


class Runners:
    """Owns the slots, scales them, and announces the target.

    Args:
        manifest: The model's.
        make_slot: Gives a new slot.
        announce: Called with what the catalog should know, at every change.
        may_sleep: Whether no runner is kept while nobody asks.
        clock: Idle times are readings of it.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        make_slot: Callable[[], Slot],
        announce: Callable[[Announcement], None],
        may_sleep: bool,
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
        self._may_sleep = may_sleep
        self._clock = clock
        self._least = 0 if may_sleep else manifest.scaling.min_runners
        self._reason = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Announce the target, and start the runners that it always has."""
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

    def stop(self) -> None:
        """Let all unload and end; ``left`` waits for it."""
        self.enter("stopped")
        for slot in self.slots:
            slot.stop()

    async def left(self) -> None:
        """Wait until all are gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def wait_while(self, is_so: Callable[[State], bool]) -> None:
        """Wait as long as ``is_so`` holds of the target's state."""
        while is_so(self.state):
            self._changed.clear()
            await self._changed.wait()

    @property
    def is_busy(self) -> bool:
        """Whether one runs a batch."""
        return any(slot.batch for slot in self.slots)

    @property
    def surplus(self) -> int:
        """How many slots there are beyond those that it always has."""
        return len(self.slots) - self._least

    def why_not(self) -> RequestError:
        """Give the error of a request that comes while the target takes none."""
        if self.state == "stopped":
            return ShuttingDown(f"{self._target} is shutting down")
        return ModelNotReady(f"{self._target} has failed to load: {self._reason}")

    # What slots report.

    def took_up(self, slot: Slot, ready: Ready) -> str:
        """Take a loaded runner into service; gives a reason if it cannot be."""
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
        """Hand nothing more to a runner that cannot take it."""
        if slot in self.idle:
            self.idle.remove(slot)

    def lost(self, slot: Slot, *, cause: Cause, how: str, failed_loads: int) -> None:
        """Note that a runner ended unasked; its slot starts another."""
        self.failed_loads = failed_loads
        self.enter("failed" if cause == "load_failed" else "recovering", reason=how)
        if cause == "load_failed" and len(self.slots) > max(1, self._least):
            slot.stop()  # one that was to help, and cannot: not tried again and again

    def emptied(self, slot: Slot, *, is_work_waiting: bool) -> None:
        """Forget a slot whose runner ended because it should."""
        self.closed(slot)
        self.slots.remove(slot)
        if self._may_sleep and not self.slots and self.state != "stopped":
            self.state = "asleep"
            if is_work_waiting:  # it came while the last runner left
                self.add()
        self.publish()

    # Scaling.

    def scale(self, now: float, *, oldest_wait_s: float, is_work_waiting: bool) -> None:
        """Start one more where requests wait; end one that has been idle for ``idle_s``."""
        if self.state == "stopped":
            return
        if is_work_waiting:
            is_starting = any(not slot.is_ready for slot in self.slots)
            is_room = len(self.slots) < self._manifest.scaling.max_runners
            if oldest_wait_s >= GROW_AFTER_S and is_room and not is_starting:
                log.info("pool_grows", extra={"model": str(self._target)})
                self.add()
        elif self.surplus > 0:
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

    # What is true of the target.

    def enter(self, state: State, *, reason: str = "") -> None:
        """Enter ``state``, unless other runners make it untrue. From "stopped" there is no way."""
        if self.state == "stopped":
            return
        if state in ("recovering", "failed") and any(slot.is_ready for slot in self.slots):
            state = "ready"
        elif state == "recovering" and self.state != "ready":
            state = self.state
        self.state, self._reason = state, reason if state in ("failed", "recovering") else ""
        self.publish()

    def publish(self) -> None:
        """Tell the catalog what is true now."""
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
                runners=len(self.slots),
                runners_ready=sum(slot.is_ready for slot in self.slots),
                digest=ready.digest if ready else "",
                schema=ready.schema if ready else None,
                reason=self._reason,
            )
        )
        self._changed.set()

    @property
    def is_serving(self) -> bool:
        """Whether the target takes requests."""
        return self.state in SERVING
