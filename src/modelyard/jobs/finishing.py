"""Keeps what came of attempts. Many are kept in one transaction, and again if the book is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from modelyard.jobs.interfaces import QueueBook
from modelyard.jobs.job import Ending

MOST_AT_ONCE = 256
AGAIN_S = 0.5

log = logging.getLogger(__name__)


class Finishing:
    """Keeps endings.

    Args:
        book: Where.
        executor: Runs what blocks.
        on_finished: Called with those that are kept, or are not to be: another holds their jobs.
    """

    def __init__(
        self,
        book: QueueBook,
        executor: Executor,
        on_finished: Callable[[Sequence[Ending]], None],
    ) -> None:
        self._book = book
        self._executor = executor
        self._on_finished = on_finished
        self._waiting: list[Ending] = []
        self._has_some = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def add(self, ending: Ending) -> None:
        """Keep an ending, soon."""
        self._waiting.append(ending)
        self._has_some.set()
        self._is_empty.clear()

    async def run(self) -> None:
        """Keep endings until cancelled."""
        while True:
            await self._has_some.wait()
            group = self._waiting[:MOST_AT_ONCE]
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._executor, self._book.finish, group)
            except Exception as error:
                log.error("jobs_not_finished", extra={"jobs": len(group), "why": str(error)})
                await asyncio.sleep(AGAIN_S)
                continue
            del self._waiting[: len(group)]
            self._on_finished(group)
            if not self._waiting:
                self._has_some.clear()
                self._is_empty.set()

    async def emptied(self) -> None:
        """Wait until all that was added is kept."""
        await self._is_empty.wait()
