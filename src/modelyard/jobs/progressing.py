"""Keeps how far jobs are: what their models say, of each job once a second at most."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from modelyard.jobs.interfaces import BookAway, QueueBook
from modelyard.jobs.job import Progressed

EVERY_S = 1.0

log = logging.getLogger(__name__)


class Progressing:
    """Keeps the progress of jobs.

    Args:
        book: Where.
        executor: Runs what blocks.
        on_change: Called with the uids of those that are further.
    """

    def __init__(
        self, book: QueueBook, executor: Executor, on_change: Callable[[Sequence[str]], None]
    ) -> None:
        self._book = book
        self._executor = executor
        self._on_change = on_change
        self._notes: dict[str, Progressed] = {}
        self._has_some = asyncio.Event()

    def add(self, note: Progressed) -> None:
        """Keep how far a job is, unless it is further before its turn comes."""
        self._notes[note.uid] = note
        self._has_some.set()

    async def run(self) -> None:
        """Keep progress until cancelled. What a book that is away does not take is not kept."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_some.wait()
            self._has_some.clear()
            notes, self._notes = self._notes, {}
            try:
                some = list(notes.values())
                await loop.run_in_executor(self._executor, self._book.note_progress, some)
            except BookAway:
                pass
            except Exception:
                log.exception("unexpected_error", extra={"id": "jobs"})
            self._on_change(list(notes))
            await asyncio.sleep(EVERY_S)
