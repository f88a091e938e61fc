"""What jobs depend on: a book that keeps them. Its methods block, and raise ``BookAway``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from modelyard.jobs.delivery import Attempt, Delivery, Parcel
from modelyard.jobs.job import (
    Accepted,
    Ending,
    Job,
    Leased,
    NewJob,
    Place,
    Progressed,
    Question,
    Renewed,
    Result,
)


class BookAway(Exception):
    """The book does not answer now; the text says why."""


class IntakeBook(Protocol):
    """Takes new jobs."""

    def accept(self, jobs: Sequence[NewJob]) -> list[Accepted]:
        """Keep jobs, all or none; returns for each the one that is kept. No two of them have the
        same id or idempotency key of one tenant.
        """
        ...


class QueueBook(Protocol):
    """Hands out jobs that are to run, and takes what came of them."""

    def lease(
        self, wanted: Mapping[str, int], *, holder: str, until: float, is_bulk: bool = False
    ) -> list[Leased]:
        """Return jobs that nobody else runs, at most so many of each model. Owners take turns, and
        of an owner's jobs the first go first.

        ``holder``: who runs them. ``until``: when others may take them. ``is_bulk``: whether they
        are bulk runs, or all others.
        """
        ...

    def renew(self, held: Mapping[str, int], *, until: float) -> Renewed:
        """Keep what is held, by uid and attempt; returns what is held still, and what was
        cancelled.
        """
        ...

    def note_progress(self, notes: Sequence[Progressed]) -> None:
        """Keep how far attempts are, of those that still hold their job."""
        ...

    def finish(self, endings: Sequence[Ending]) -> set[str]:
        """Keep what came of attempts; returns the uids of those that still held their job."""
        ...

    def sweep(self) -> None:
        """Let jobs go on that are ready by now or whose holder is gone, and end those whose
        deadline has passed.
        """
        ...


class ReadingBook(Protocol):
    """Tells of jobs."""

    def revisions(self, uids: Sequence[str]) -> dict[str, int]:
        """Return the revisions of jobs by uid, of those that are there."""
        ...

    def find(self, job_id: str, tenant: str | None) -> Job | None:
        """Return a tenant's job; for None anybody's."""
        ...

    def list(self, question: Question) -> list[Job]:
        """Return jobs."""
        ...

    def place_of(self, job: Job) -> Place:
        """Return where a job that is queued stands."""
        ...

    def result_of(self, uid: str) -> Result | None:
        """Return what a job has brought; None if it has brought nothing."""
        ...


class ChangingBook(Protocol):
    """Changes jobs by hand."""

    def cancel(self, uid: str) -> bool:
        """End a job that is queued or runs; returns whether it was."""
        ...

    def retry(self, uid: str, *, deadline_in_s: float) -> bool:
        """Queue a job again that failed, expired or was cancelled; returns whether it had."""
        ...

    def remove(self, uid: str) -> bool:
        """Forget a job that has come to its end; returns whether it had."""
        ...


class JobMetrics(Protocol):
    """What is counted."""

    def accepted(self, model: str) -> None:
        """A job was accepted."""
        ...

    def ended(self, model: str, state: str) -> None:
        """An attempt at a job came to its end; it is ``queued`` if there will be another."""
        ...

    def told(self, state: str) -> None:
        """An attempt at a callback came to its end; it is ``pending`` if there will be another."""
        ...


class RetentionBook(Protocol):
    """Forgets jobs that are at their ends, and whose callbacks are as well."""

    def purge(self, before: float, most: int) -> int:
        """Forget jobs that came to their ends before that, at most so many; returns how many."""
        ...

    def known(self, uids: Sequence[str]) -> set[str]:
        """Return those of the uids whose jobs are there."""
        ...

    def sizes(self) -> dict[str, int]:
        """Return how many bytes the inputs and results of finished jobs take, by model."""
        ...

    def trim(self, model: str, excess: int, most: int) -> int:
        """Forget the oldest jobs of a model, until so many bytes are freed, and at most so many
        jobs; returns how many bytes that were.
        """
        ...


class JobBook(IntakeBook, QueueBook, ReadingBook, ChangingBook, RetentionBook, Protocol):
    """All of it."""


class DeliveryBook(Protocol):
    """Keeps callbacks."""

    def due(
        self, most: int, *, hosts: Collection[str], tenants: Collection[str], until: float
    ) -> list[Parcel]:
        """Return callbacks that are to be sent now, the longest due first, but none for these hosts
        and tenants: they have enough. Nobody else gets them until ``until``.
        """
        ...

    def note(self, attempt: Attempt) -> None:
        """Keep what came of an attempt."""
        ...

    def deliveries_of(self, uid: str) -> list[Delivery]:
        """Return the callbacks of a job, the first first."""
        ...

    def replay(self, delivery_id: str) -> bool:
        """Send a callback again, as if for the first time; returns whether it is there."""
        ...
