"""From the settings to the jobs of a gateway."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from random import Random
from typing import TYPE_CHECKING

from modelyard.access.accounts import Accounts
from modelyard.compose.bulk import OpenBulk, open_bulk
from modelyard.compose.callbacks import Callbacks
from modelyard.compose.objects import job_place_of
from modelyard.compose.running import own_name
from modelyard.core.messages import Progress
from modelyard.dispatch.dispatch import Dispatch
from modelyard.jobs.attempts import Attempts
from modelyard.jobs.desk import Desk
from modelyard.jobs.intake import Intake
from modelyard.jobs.interfaces import DeliveryBook, JobBook
from modelyard.jobs.job import Leased, Uids
from modelyard.jobs.objects import Objects
from modelyard.jobs.pump import Pump
from modelyard.jobs.retention import Retention
from modelyard.jobs.starting import Sizes
from modelyard.jobs.watching import Watching
from modelyard.settings import Settings
from modelyard.store.errors import StoreError
from modelyard.telemetry.jobs import JobMetrics

if TYPE_CHECKING:
    from modelyard.compose.access import OpenGate
    from modelyard.dispatch.catalog import Catalog
    from modelyard.gateway.registry_pages import Routes
    from modelyard.gateway.submitting import Submitting
    from modelyard.gateway.traced import RequestSpans

_LIBRARIES = ("sqlalchemy", "alembic")
_READERS = 4
_WRITERS = 4  # SQLite has one: the others would wait for it

log = logging.getLogger(__name__)


class OpenJobs:
    """The jobs of one gateway.

    Args:
        settings: Say for how long jobs are kept.
        book: Keeps them.
        deliveries: Keeps their callbacks.
        writers: How many may write at a time.
        bulk: Bulk runs, which are jobs; None if there is no place for their files.
        objects: Large inputs and results; None if there is no place for them.

    Raises:
        SettingsError: A setting of callbacks cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        book: JobBook,
        deliveries: DeliveryBook,
        *,
        writers: int,
        bulk: OpenBulk | None = None,
        objects: Objects | None = None,
    ) -> None:
        self.bulk = bulk
        self.objects = objects
        self._settings = settings
        self._book = book
        self._writing = ThreadPoolExecutor(writers, thread_name_prefix="jobs-write")
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix="jobs-read")
        self._watching = Watching(book, self._reading)
        self._pump: Pump | None = None
        self._is_closing = False
        self._closed_at = 0.0
        self._hurried = asyncio.Event()
        self._callbacks = Callbacks(settings, deliveries, self._writing)
        self._retention = Retention(
            book,
            self._writing,
            keep_s=settings.job_keep_s,
            keep_bytes=settings.job_keep_mb * 1_000_000,
            wall_clock=time.time,
        )
        self.desk = Desk(
            book,
            self._watching,
            reading=self._reading,
            writing=self._writing,
            expires_s=settings.job_expires_s,
            on_change=self._on_changed_by_hand,
            deliveries=deliveries,
            signer=self._callbacks.signer,
            objects=objects,
        )

    def attach(
        self,
        dispatch: Dispatch,
        metrics: JobMetrics,
        accounts: Accounts | None,
        spans: RequestSpans | None,
    ) -> Submitting:
        """Run jobs by ``dispatch``; returns what makes jobs of requests. ``accounts``: of callers,
        where they are known. ``spans``: of requests, where they are traced.
        """
        from modelyard.gateway.submitting import Submitting, Terms

        is_logged = self._settings.access_log
        traced = (None, None) if spans is None else (spans.record, spans.ids)
        self._pump = pump = Pump(
            self._book,
            dispatch,
            self._writing,
            holder=own_name(),
            is_leaving=lambda: self._is_closing,
            on_change=self._on_change,
            on_ran=partial(_note_time, accounts),
            metrics=metrics,
            wall_clock=time.time,
            chance=Random(),
            attempts=Attempts(*traced, is_logged=is_logged, wall_clock=time.time),
            bulk=None if self.bulk is None else self.bulk.attach(dispatch, accounts),
            sizes=self._sizes(),
        )
        metrics.watch_running(lambda: pump.running)
        self._callbacks.attach(metrics)
        terms = Terms(
            expires_s=self._settings.job_expires_s,
            max_attempts=self._settings.job_max_attempts,
            most_plain_bytes=self._settings.max_body_bytes,
            check_callback=self._callbacks.check,
        )
        intake = Intake(self._book, self._writing, on_kept=pump.wake, metrics=metrics)
        if self.bulk is not None:
            self.bulk.take_by(intake, self._callbacks.check)
        uids = Uids(os.urandom)
        return Submitting(
            intake,
            terms,
            dispatch=dispatch,
            uids=uids,
            clock=time.monotonic,
            wall_clock=time.time,
            spans=spans,
            is_logged=is_logged,
            objects=self.objects,
        )

    @property
    def most_bytes(self) -> int:
        """How large the input of a job may be that goes as an object; 0 if none does."""
        return 0 if self.objects is None else self._settings.max_job_mb * 1_000_000

    def _sizes(self) -> Sizes | None:
        """Return what is large; None if there is no place for it."""
        from modelyard.gateway.job_answers import around_of

        if self.objects is None:
            return None
        return Sizes(self.objects.above_bytes, self.most_bytes, around_of)

    def bulk_pages(self, catalog: Catalog, opened: OpenGate | None) -> Routes | None:
        """Return the pages of bulk runs; None if there are none."""
        gate = None if opened is None else opened.gate
        return None if self.bulk is None else self.bulk.pages(self.desk, catalog, gate)

    def note_progress(self, request_id: str, progress: Progress) -> None:
        """Keep how far a request is, if it is that of a job that runs here."""
        if self._pump is not None:
            self._pump.note_progress(request_id, progress)

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Return what runs jobs, and tells of them."""
        assert self._pump is not None
        runs = [self._pump.run(), self._watching.run(), self._retention.run()]
        runs += [] if self.bulk is None else self.bulk.runs()
        runs += [] if self.objects is None else [self.objects.run()]
        return [*runs, *self._callbacks.runs()]

    def close(self, *, is_forced: bool) -> None:
        """Begin no more jobs, and let nobody wait for one any longer. ``is_forced``: do not wait
        for those that run either.
        """
        if not self._is_closing:
            self._closed_at = time.monotonic()
        self._is_closing = True
        self._watching.close()
        if self.bulk is not None:
            self.bulk.leave()
        if is_forced:
            self._hurried.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until the jobs that run are at their ends, at most so long since ``close``."""
        if self._pump is None:
            return
        left_s = max(0.0, self._closed_at + timeout_s - time.monotonic())
        drained = asyncio.create_task(self._pump.drained())
        hurried = asyncio.create_task(self._hurried.wait())
        both = (drained, hurried)
        await asyncio.wait(both, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        for one in both:
            one.cancel()

    def _on_change(self, uids: Sequence[str]) -> None:
        self._watching.hurry(uids)
        self._callbacks.wake()

    def _on_changed_by_hand(self, uid: str) -> None:
        if self._pump is not None:
            self._pump.look_at(uid)
        self._callbacks.wake()


def _note_time(accounts: Accounts | None, job: Leased, model_s: float) -> None:
    if accounts is not None:
        accounts.add_time(job.key, job.owner, job.model, model_s)


def open_jobs(settings: Settings, *, is_alone: bool) -> OpenJobs | None:
    """Return the jobs of a gateway; None if there is no store, or it cannot be used. ``is_alone``:
    whether it has no workers.
    """
    if not (settings.has_store and all(map(find_spec, _LIBRARIES))):
        return None
    from modelyard.store.deliveries import DeliveryStore
    from modelyard.store.job_retention import Jobs
    from modelyard.store.schema import check_revision, open_engine

    try:
        engine = open_engine(settings.store_url)
        check_revision(engine, may_be_away=True)
    except StoreError as error:
        log.warning("jobs_not_kept", extra={"why": str(error)})
        return None
    writers = 1 if engine.dialect.name == "sqlite" else _WRITERS
    deliveries = DeliveryStore(engine, wall_clock=time.time)
    book, objects = Jobs(engine, wall_clock=time.time), None
    if (place := job_place_of(settings, is_alone=is_alone)) is not None:
        above_bytes, link_s = settings.job_inline_bytes, settings.job_link_s
        objects = Objects(place, book, above_bytes=above_bytes, link_s=link_s, wall_clock=time.time)
        book.on_objects_gone = objects.drop
    return OpenJobs(
        settings,
        book,
        deliveries,
        writers=writers,
        bulk=open_bulk(settings, engine),
        objects=objects,
    )
