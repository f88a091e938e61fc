"""From the settings to the bulk runs of a gateway."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from modelyard.access.accounts import Accounts
from modelyard.compose.objects import place_at, place_beside
from modelyard.dispatch.dispatch import Dispatch
from modelyard.jobs.bulk.desk import BulkDesk, Terms
from modelyard.jobs.bulk.interfaces import BulkBook, Place, Urls
from modelyard.jobs.bulk.order import Chunk
from modelyard.jobs.bulk.runs import Runs
from modelyard.jobs.intake import Intake
from modelyard.jobs.job import Leased, Uids
from modelyard.settings import Settings, SettingsError, parts_of

if TYPE_CHECKING:
    from modelyard.access.gate import Gate
    from modelyard.dispatch.catalog import Catalog
    from modelyard.gateway.registry_pages import Routes
    from modelyard.jobs.desk import Desk
    from modelyard.store.schema import Engine

_THREADS = 8

log = logging.getLogger(__name__)


class OpenBulk:
    """The bulk runs of one gateway.

    Args:
        settings: Say how large files may be, and for how long they are kept.
        book: Keeps chunks.
        place: Has files.
        urls: Opens URLs; None if none are.

    Attributes:
        desk: Takes files and runs, and tells of them.
    """

    def __init__(self, settings: Settings, book: BulkBook, place: Place, urls: Urls | None) -> None:
        self._book = book
        self._place = place
        self._urls = urls
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="bulk")
        self._runs: Runs | None = None
        self.desk = BulkDesk(
            book,
            place,
            urls,
            self._executor,
            terms=Terms(
                most_bytes=settings.max_bulk_mb * 1_000_000,
                keep_s=settings.job_keep_s,
                expires_s=settings.job_expires_s,
            ),
            uids=Uids(os.urandom),
            wall_clock=time.time,
        )

    def attach(self, dispatch: Dispatch, accounts: Accounts | None) -> Runs:
        """Return what runs bulk jobs by ``dispatch``. ``accounts``: of callers, where they are
        known.
        """
        from modelyard.gateway.openai_lines import make_asker

        self._runs = Runs(
            self._book,
            self._place,
            self._urls,
            dispatch,
            self._executor,
            clock=time.monotonic,
            on_ran=partial(_note_chunk, accounts),
            make_asker=partial(make_asker, dispatch, time.monotonic),
        )
        return self._runs

    def pages(self, desk: Desk, catalog: Catalog, gate: Gate | None) -> Routes:
        """Return the pages. ``desk``: tells of jobs. ``gate``: None if everybody may ask."""
        from modelyard.gateway.batch_pages import make_batches_router
        from modelyard.gateway.openai_batch_pages import make_openai_batches_router

        routes = make_batches_router(self.desk, desk, catalog=catalog, gate=gate)
        openai = make_openai_batches_router(self.desk, desk, catalog=catalog, gate=gate)
        routes.include_router(openai)
        return routes

    def take_by(self, intake: Intake, check_callback: Callable[[str], None]) -> None:
        """Keep runs as jobs by ``intake``. ``check_callback``: see ``BulkDesk``."""
        self.desk.intake, self.desk.check_callback = intake, check_callback

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Return what removes files that nobody needs any more."""
        return [self.desk.run()]

    def leave(self) -> None:
        """Begin nothing more: the process stops."""
        if self._runs is not None:
            self._runs.leave()


def _note_chunk(accounts: Accounts | None, job: Leased, chunk: Chunk) -> None:
    if accounts is not None and job.key:
        instances = chunk.rows - chunk.failed
        accounts.add_time(job.key, job.owner, job.model, chunk.model_s, instances)


def open_bulk(settings: Settings, engine: Engine) -> OpenBulk | None:
    """Return the bulk runs of a gateway; None if there is no place for their files.

    Raises:
        SettingsError: A setting of theirs cannot be used.
    """
    from modelyard.store.bulk import BulkStore

    try:
        place, urls = _place_of(settings), _urls_of(settings)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if place is None:
        return None
    return OpenBulk(settings, BulkStore(engine, wall_clock=time.time), place, urls)


def _place_of(settings: Settings) -> Place | None:
    """Return where files are: beside the artefacts, or beside SQLite; None if neither is said."""
    url = settings.artefacts_url
    if "://" in url and find_spec("fsspec") is None:
        return None
    beside = place_beside(settings, "bulk", in_state=settings.store_url.startswith("sqlite"))
    return place_at(beside) if beside else None


def _urls_of(settings: Settings) -> Urls | None:
    if not (settings.bulk_input_urls or settings.bulk_output_urls):
        return None
    if find_spec("fsspec") is None:
        raise ValueError("bulk_input_urls needs fsspec: pip install 'modelyard[registry]'")
    from modelyard.jobs.bulk.remote import AllowedUrls

    return AllowedUrls(parts_of(settings.bulk_input_urls), parts_of(settings.bulk_output_urls))
