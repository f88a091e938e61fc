"""Takes new jobs, and says of each when it is kept. Many are kept in one transaction: those that
come while the last one is being written, and for a moment after that. Without that moment, those
who have just been answered and ask again would come too late for the next one, and each transaction
would hold half of those who ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

from modelyard.core.errors import Conflict, InvalidInput, Overloaded, RequestError, Unavailable
from modelyard.jobs.interfaces import BookAway, IntakeBook, JobMetrics
from modelyard.jobs.job import Accepted, NewJob

MOST_WAITING = 4096
MOST_AT_ONCE = 256
MOST_BYTES_AT_ONCE = 16 << 20
GATHER_S = 0.005
RETRY_AFTER_S = 5

Then = Callable[[str | RequestError], None]

log = logging.getLogger(__name__)


class _Submission(NamedTuple):
    job: NewJob
    then: Then


class Intake:
    """Keeps new jobs.

    Args:
        book: Where they are kept.
        executor: Runs what blocks.
        on_kept: Called when there are new jobs to be run.
        metrics: Counts what is accepted.
    """

    def __init__(
        self,
        book: IntakeBook,
        executor: Executor,
        *,
        on_kept: Callable[[], None],
        metrics: JobMetrics,
    ) -> None:
        self._metrics = metrics
        self._book = book
        self._executor = executor
        self._on_kept = on_kept
        self._waiting: deque[_Submission] = deque()
        self._pending: set[tuple[str, str, str]] = set()
        self._is_busy = False
        self._is_well = True
        self._expected = 0  # so many are waited for, if not for long
        self._gathering: asyncio.TimerHandle | None = None

    def add(self, job: NewJob, then: Then) -> None:
        """Keep a job; ``then`` is called once, later, with the id of the job that is kept, or why
        none is.

        Raises:
            Conflict: One with its id or idempotency key is just being kept.
            Overloaded: Too many are.
        """
        names = _names_of(job)
        if not self._pending.isdisjoint(names):
            raise Conflict(
                "a request with this id or Idempotency-Key is just being accepted",
                retry_after_s=1,
            )
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} jobs wait to be kept")
        self._pending.update(names)
        self._waiting.append(_Submission(job, then))
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._keep_next)  # with those of the same turn
        elif self._gathering is not None and len(self._waiting) >= self._expected:
            self._keep_next()

    def _gather(self, answered: int) -> None:
        """Wait a moment for those who were just answered, if they were many."""
        if answered == 1:
            self._keep_next()
            return
        self._expected = min(answered + len(self._waiting), MOST_AT_ONCE)
        loop = asyncio.get_running_loop()
        self._gathering = loop.call_later(GATHER_S, self._keep_next)

    def _keep_next(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if not self._waiting:
            self._is_busy = False
            return
        group: list[_Submission] = []
        size = 0
        while self._waiting and len(group) < MOST_AT_ONCE and size < MOST_BYTES_AT_ONCE:
            group.append(self._waiting.popleft())
            size += len(group[-1].job.input)
        jobs = [one.job for one in group]
        loop = asyncio.get_running_loop()
        keeping = loop.run_in_executor(self._executor, self._book.accept, jobs)
        keeping.add_done_callback(lambda done: self._on_done(group, done))

    def _on_done(self, group: list[_Submission], done: asyncio.Future[list[Accepted]]) -> None:
        self._gather(len(group))
        for one in group:
            self._pending.difference_update(_names_of(one.job))
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._is_well = True
            for one, accepted in zip(group, done.result(), strict=True):
                verdict = _verdict_on(one.job, accepted)
                if isinstance(verdict, str):
                    self._metrics.accepted(one.job.model)
                one.then(verdict)
            self._on_kept()
            return
        if self._is_well or not isinstance(error, BookAway):
            log.error("jobs_not_kept", exc_info=error, extra={"why": str(error)})
        self._is_well = False
        refusal = Unavailable(
            "the database does not answer. It may have kept the job all the same: send it again "
            "with the same Idempotency-Key or id, and it is kept once",
            retry_after_s=RETRY_AFTER_S,
        )
        for one in group:
            one.then(refusal)


def _names_of(job: NewJob) -> list[tuple[str, str, str]]:
    """Return what no other job of its tenant may be called."""
    names = [(job.tenant, "id", job.id)]
    if job.idempotency_key is not None:
        names.append((job.tenant, "key", job.idempotency_key))
    return names


def _verdict_on(job: NewJob, accepted: Accepted) -> str | RequestError:
    """Return the id of the job that is kept, or the refusal of another request with its name."""
    if accepted.digest == job.digest:
        return accepted.id
    if job.idempotency_key is not None:
        return InvalidInput("this Idempotency-Key was used with another request")
    return Conflict(f"there is a job {job.id!r} already, of another request")
