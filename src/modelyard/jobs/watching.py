"""Tells who waits for a job that it has changed, wherever it was changed.

All that are waited for are looked up together, so many who wait cost no more than a few.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor

from modelyard.jobs.interfaces import BookAway, ReadingBook

POLL_S = 0.5

log = logging.getLogger(__name__)


class Watching:
    """Looks for changes while somebody waits for them.

    Args:
        book: Tells of jobs.
        executor: Runs what blocks.
    """

    def __init__(self, book: ReadingBook, executor: Executor) -> None:
        self._book = book
        self._executor = executor
        self._waiting: dict[str, dict[asyncio.Future[None], int]] = {}
        self._hurried = asyncio.Event()
        self.is_closing = False

    def close(self) -> None:
        """Let nobody wait any longer: the process stops."""
        self.is_closing = True
        for changes in self._waiting.values():
            for change in changes:
                if not change.done():
                    change.set_result(None)

    def hurry(self, uids: Sequence[str]) -> None:
        """Look now, if any of these is waited for."""
        if any(uid in self._waiting for uid in uids):
            self._hurried.set()

    async def changed(self, uid: str, revision: int, timeout_s: float) -> None:
        """Wait until a job has another revision, or is gone; at most so long."""
        if self.is_closing:
            return
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(uid, {})[change] = revision
        try:
            async with asyncio.timeout(timeout_s):
                await change
        except TimeoutError:
            pass
        finally:
            waiting = self._waiting[uid]
            del waiting[change]
            if not waiting:
                del self._waiting[uid]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._hurried.wait()
            except TimeoutError:
                pass
            self._hurried.clear()
            if self._waiting:
                await self._look()

    async def _look(self) -> None:
        uids, loop = list(self._waiting), asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._executor, self._book.revisions, uids)
        except BookAway:
            return  # who waits does so until its time is up
        except Exception:
            log.exception("unexpected_error", extra={"id": "jobs"})
            return
        for uid in uids:
            for change, revision in self._waiting.get(uid, {}).items():
                if found.get(uid) != revision and not change.done():
                    change.set_result(None)
