"""What callers ask of jobs that are kept, without blocking the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from modelyard.core.errors import Unavailable
from modelyard.jobs.delivery import Delivery
from modelyard.jobs.interfaces import BookAway, DeliveryBook, JobBook
from modelyard.jobs.job import Job, Place, Question, Result
from modelyard.jobs.objects import Objects
from modelyard.jobs.signing import Signer
from modelyard.jobs.watching import Watching

T = TypeVar("T")

RETRY_AFTER_S = 5


class Desk:
    """Tells of jobs, and changes them.

    Args:
        book: Where they are.
        watching: Tells of changes.
        reading: Runs what reads, and so blocks.
        writing: Runs what writes.
        expires_s: How long a job may wait that is queued again.
        on_change: Called with the uid of a job that was changed by hand.
        deliveries: Has the callbacks.
        signer: Signs them.
        objects: Large results; None if there is no place for them.
    """

    def __init__(
        self,
        book: JobBook,
        watching: Watching,
        *,
        reading: Executor,
        writing: Executor,
        expires_s: float,
        on_change: Callable[[str], None],
        deliveries: DeliveryBook,
        signer: Signer,
        objects: Objects | None = None,
    ) -> None:
        self.objects = objects
        self._deliveries = deliveries
        self._signer = signer
        self._book = book
        self._watching = watching
        self._reading = reading
        self._writing = writing
        self._expires_s = expires_s
        self._on_change = on_change

    @property
    def is_closing(self) -> bool:
        """Whether the process stops, and nobody should wait any longer."""
        return self._watching.is_closing

    async def find(self, job_id: str, tenant: str | None) -> Job | None:
        """Return a tenant's job; for None anybody's. None if there is no such job."""
        return await self._ask(partial(self._book.find, job_id, tenant))

    async def changed(self, job: Job, timeout_s: float) -> Job | None:
        """Return a job as it is when it has changed, or when that time is over."""
        await self._watching.changed(job.uid, job.revision, timeout_s)
        return await self.find(job.id, job.tenant)

    async def listed(self, question: Question) -> list[Job]:
        """Return jobs, the newest first."""
        return await self._ask(partial(self._book.list, question))

    async def place_of(self, job: Job) -> Place:
        """Return where a job that is queued stands."""
        return await self._ask(partial(self._book.place_of, job))

    async def result_of(self, job: Job) -> Result | None:
        """Return what a job that has succeeded has brought."""
        return await self._ask(partial(self._book.result_of, job.uid))

    async def cancel(self, job: Job) -> bool:
        """End a job; returns whether it was not at its end yet."""
        return await self._change(job, partial(self._book.cancel, job.uid))

    async def retry(self, job: Job) -> bool:
        """Queue a job again that has no result; returns whether it was at its end."""
        retry = partial(self._book.retry, job.uid, deadline_in_s=self._expires_s)
        return await self._change(job, retry)

    async def remove(self, job: Job) -> bool:
        """Forget a job; returns whether it was at its end."""
        return await self._change(job, partial(self._book.remove, job.uid))

    async def deliveries_of(self, job: Job) -> list[Delivery]:
        """Return the callbacks that tell of a job."""
        return await self._ask(partial(self._deliveries.deliveries_of, job.uid))

    async def replay(self, job: Job, delivery: Delivery) -> None:
        """Send a callback again."""
        await self._change(job, partial(self._deliveries.replay, delivery.id))

    def secrets_of(self, tenant: str) -> list[str]:
        """Return the secrets with which a tenant checks callbacks; none where there are none."""
        return self._signer.secrets_of(tenant)

    async def _change(self, job: Job, change: Callable[[], bool]) -> bool:
        is_changed = await self._ask(change, self._writing)
        self._watching.hurry([job.uid])
        self._on_change(job.uid)
        return is_changed

    async def _ask(self, ask: Callable[[], T], executor: Executor | None = None) -> T:
        """Ask the book.

        Raises:
            Unavailable: It is away.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(executor or self._reading, ask)
        except BookAway as error:
            raise Unavailable(
                "the database is away, so nothing can be told of jobs",
                retry_after_s=RETRY_AFTER_S,
            ) from error
