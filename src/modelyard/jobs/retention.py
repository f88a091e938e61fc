"""Forgets jobs that came to their end long ago, or whose results take too much room.

In small steps, with pauses: what else is to be written waits for none of them for long.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from functools import partial

from modelyard.core.clock import WallClock
from modelyard.jobs.interfaces import BookAway, RetentionBook

EVERY_S = 30.0
SIZES_EVERY_S = 600.0
AT_ONCE = 200
PAUSE_S = 0.05

log = logging.getLogger(__name__)


class Retention:
    """Forgets jobs until it is cancelled.

    Args:
        book: Has them.
        executor: Runs what blocks.
        keep_s: How long they are kept after their end.
        keep_bytes: What those of one model may take.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self,
        book: RetentionBook,
        executor: Executor,
        *,
        keep_s: float,
        keep_bytes: int,
        wall_clock: WallClock,
    ) -> None:
        self._book = book
        self._executor = executor
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._wall_clock = wall_clock
        self._measured: float | None = None

    async def run(self) -> None:
        """Forget what is too much, every now and then."""
        while True:
            try:
                await self.forget()
            except BookAway as error:
                log.warning("jobs_not_forgotten", extra={"why": str(error)})
            except Exception:
                log.exception("unexpected_error", extra={"id": "jobs"})
            await asyncio.sleep(min(EVERY_S, max(1.0, self._keep_s / 10)))

    async def forget(self) -> None:
        """Forget what is too old, and what is too large as often as that is measured.

        Raises:
            BookAway: The book does not answer.
        """
        now, loop = self._wall_clock(), asyncio.get_running_loop()
        purge = partial(self._book.purge, now - self._keep_s, AT_ONCE)
        while True:
            if await loop.run_in_executor(self._executor, purge) < AT_ONCE:
                break
            await asyncio.sleep(PAUSE_S)
        if self._measured is not None and now - self._measured < SIZES_EVERY_S:
            return
        self._measured = now
        sizes = await loop.run_in_executor(self._executor, self._book.sizes)
        for model, size in sizes.items():
            excess = size - self._keep_bytes
            while excess > 0:
                trim = partial(self._book.trim, model, excess, AT_ONCE)
                freed = await loop.run_in_executor(self._executor, trim)
                if not freed:
                    break
                excess -= freed
                await asyncio.sleep(PAUSE_S)
