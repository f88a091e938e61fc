"""``Job`` and ``AsyncJob``: a job that was submitted, to be waited for, fetched or cancelled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .calls import AsyncRun, Run
from .errors import DeadlineExceeded
from .forms import Answer
from .jobs import WAIT_S, JobInfo, change_call, job_call, result_call


class Job:
    """A job at a gateway. Threads may share one.

    Attributes:
        id: Its name, with which ``Client.job`` finds it again.
    """

    def __init__(self, job_id: str, run: Run, events: Callable[[str], Iterator[JobInfo]]) -> None:
        self.id = job_id
        self._run = run
        self._events = events

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def info(self) -> JobInfo:
        """Return the job as it is now."""
        return self._run(job_call(self.id))

    def wait(self, timeout_s: float | None = None) -> JobInfo:
        """Wait for the job's end, and return it.

        Raises:
            DeadlineExceeded: That took longer than ``timeout_s``; the job goes on.
        """
        for wait_s in _waits(timeout_s):
            info = self._run(job_call(self.id, wait_s=wait_s))
            if info.is_over:
                return info
        raise _not_yet(self.id, timeout_s)

    def answer(self, timeout_s: float | None = None) -> Answer:
        """Wait for the job's end, and return its predictions and what is said of them.

        Raises:
            ModelyardError: It has none: what the request would have raised, or a ``Conflict`` if it
                was cancelled.
        """
        self.wait(timeout_s)
        return self._run(result_call(self.id))

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the job's end, and return its predictions; see ``answer``."""
        return self.answer(timeout_s).predictions

    def cancel(self) -> JobInfo:
        """End the job; a ``Conflict`` if it has come to its end already."""
        return self._run(change_call(self.id, "cancel"))

    def retry(self) -> JobInfo:
        """Queue it again, if it failed, expired or was cancelled; else it is a ``Conflict``."""
        return self._run(change_call(self.id, "retry"))

    def __iter__(self) -> Iterator[JobInfo]:
        """Yield the job at each change, until its end."""
        return self._events(self.id)


class AsyncJob:
    """A job at a gateway, with asyncio; see ``Job``."""

    def __init__(
        self, job_id: str, run: AsyncRun, events: Callable[[str], AsyncIterator[JobInfo]]
    ) -> None:
        self.id = job_id
        self._run = run
        self._events = events

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def info(self) -> JobInfo:
        """Return the job as it is now."""
        return await self._run(job_call(self.id))

    async def wait(self, timeout_s: float | None = None) -> JobInfo:
        """Wait for the job's end, and return it; see ``Job.wait``."""
        for wait_s in _waits(timeout_s):
            info = await self._run(job_call(self.id, wait_s=wait_s))
            if info.is_over:
                return info
        raise _not_yet(self.id, timeout_s)

    async def answer(self, timeout_s: float | None = None) -> Answer:
        """Wait for the job's end, and return its predictions; see ``Job.answer``."""
        await self.wait(timeout_s)
        return await self._run(result_call(self.id))

    async def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the job's end, and return its predictions; see ``Job.answer``."""
        return (await self.answer(timeout_s)).predictions

    async def cancel(self) -> JobInfo:
        """End the job; see ``Job.cancel``."""
        return await self._run(change_call(self.id, "cancel"))

    async def retry(self) -> JobInfo:
        """Queue it again; see ``Job.retry``."""
        return await self._run(change_call(self.id, "retry"))

    def __aiter__(self) -> AsyncIterator[JobInfo]:
        """Yield the job at each change, until its end."""
        return self._events(self.id)


def _waits(timeout_s: float | None) -> Iterator[float]:
    """Yield how long to wait, again and again, until the time is over."""
    give_up = None if timeout_s is None else time.monotonic() + timeout_s
    while give_up is None or (left_s := give_up - time.monotonic()) > 0:
        yield WAIT_S if give_up is None else min(WAIT_S, left_s)


def _not_yet(job_id: str, timeout_s: float | None) -> DeadlineExceeded:
    return DeadlineExceeded(f"the job {job_id} is not at its end after {timeout_s} s")
