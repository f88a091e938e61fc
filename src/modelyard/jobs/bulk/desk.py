"""What callers ask of bulk runs, without blocking the loop: files come and go, runs are made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from typing import NamedTuple, TypeVar

import msgspec

from modelyard.core.clock import WallClock
from modelyard.core.errors import RequestError, TooLarge, Unavailable
from modelyard.jobs.bulk.interfaces import BulkBook, Place, PlaceAway, Urls
from modelyard.jobs.bulk.order import DOOR, File, Order, Totals, Wanted
from modelyard.jobs.intake import Intake
from modelyard.jobs.interfaces import BookAway
from modelyard.jobs.job import Job, NewJob, Uids

PIECE_BYTES = 1 << 20
RETRY_AFTER_S = 5
MOST_ATTEMPTS = 5
RANK = 50  # after the jobs that say nothing of their priority
JANITOR_S = 600.0
ABANDONED_S = 3600.0
T = TypeVar("T")

log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """What files and runs are kept on.

    Attributes:
        most_bytes: How large a file may be.
        keep_s: How long files are kept.
        expires_s: No run is begun later than after so many seconds.
    """

    most_bytes: int
    keep_s: float
    expires_s: float


class Whose(NamedTuple):
    """Whose file or run it is; see ``NewJob``."""

    tenant: str
    owner: str
    key: str


class Received(NamedTuple):
    """A file that has come. ``name``: in the place."""

    name: str
    bytes: int
    digest: str


class BulkDesk:
    """Takes files, makes runs of them, and tells of those.

    Args:
        book: Keeps chunks, and knows files.
        place: Has files.
        urls: Opens URLs; None if none are.
        executor: Runs what blocks.
        terms: On which.
        uids: Names runs and files.
        wall_clock: Unix time, in seconds.

    Attributes:
        intake: Keeps runs as jobs.
        check_callback: Raises a RequestError if ends cannot be told to a URL.
    """

    check_callback: Callable[[str], None]

    def __init__(
        self,
        book: BulkBook,
        place: Place,
        urls: Urls | None,
        executor: Executor,
        *,
        terms: Terms,
        uids: Uids,
        wall_clock: WallClock,
    ) -> None:
        self.intake: Intake | None = None
        self.urls = urls
        self.terms = terms
        self._book = book
        self._place = place
        self._executor = executor
        self._uids = uids
        self._wall_clock = wall_clock

    def new_uid(self) -> str:
        """Return a name for a run or a file."""
        return self._uids.new(self._wall_clock())

    # Files.

    async def receive(self, uid: str, pieces: AsyncIterator[bytes]) -> Received:
        """Put a file in its place as it comes.

        Raises:
            TooLarge: It is.
            Unavailable: The place is away.
        """
        name, size, digest = f"files/{uid}", 0, sha256()

        def write(some: bytes) -> None:
            digest.update(some)
            stream.write(some)

        with ExitStack() as stack:
            stream = await self.ask(partial(stack.enter_context, self._place.writing(name)))
            gathered = bytearray()
            async for piece in pieces:
                gathered += piece
                size += len(piece)
                if size > self.terms.most_bytes:
                    raise TooLarge(f"a file may have {self.terms.most_bytes} bytes")
                if len(gathered) >= PIECE_BYTES:
                    await self.ask(partial(write, bytes(gathered)))
                    gathered.clear()
            await self.ask(partial(write, bytes(gathered)))
            await self.ask(stack.pop_all().close)
        return Received(name, size, digest.hexdigest())

    async def add_file(self, received: Received, whose: Whose, name: str, purpose: str) -> File:
        """Keep a file for runs that are made of it later."""
        file = File(
            id=f"file-{received.name.rpartition('/')[2]}",
            tenant=whose.tenant,
            owner=whose.owner,
            name=name[:255],
            purpose=purpose,
            bytes=received.bytes,
            created=self._wall_clock(),
        )
        await self.ask(partial(self._book.add_file, file))
        return file

    async def find_file(self, file_id: str, tenant: str | None) -> File | None:
        """Return a tenant's file; for None anybody's."""
        return await self.ask(partial(self._book.find_file, file_id, tenant))

    async def list_files(self, wanted: Wanted, most: int) -> list[File]:
        """Return files, at most so many."""
        return await self.ask(partial(self._book.list_files, wanted, most))

    async def remove_file(self, file: File) -> None:
        """Forget a file."""
        await self.ask(partial(self._book.remove_file, file.id))
        await self.drop(name_of(file))

    async def drop(self, name: str) -> None:
        """Remove what is in the place."""
        await self.ask(partial(self._place.remove, name))

    async def size(self, name: str) -> int | None:
        """Return how large a file in the place is; None if there is none."""
        return await self.ask(partial(self._place.size, name))

    async def read(self, name: str, offset: int, end: int) -> AsyncIterator[bytes]:
        """Yield a part of a file in the place."""
        stream = await self.ask(partial(self._place.open, name, offset))
        try:
            left = end - offset
            while left > 0:
                piece = await self.ask(partial(stream.read, min(PIECE_BYTES, left)))
                if not piece:
                    return
                left -= len(piece)
                yield piece
        finally:
            await self.ask(stream.close)

    # Runs.

    async def submit(
        self,
        uid: str,
        order: Order,
        whose: Whose,
        *,
        model: str,
        version: str,
        callback: str | None = None,
        **named: str,
    ) -> str:
        """Keep a run as a job; returns its id. ``callback``: a URL that was checked, and is told of
        its end. ``named``: ``job_id`` and ``digest``, of the input.

        Raises:
            RequestError: It is not kept.
        """
        assert self.intake is not None
        now = self._wall_clock()
        said = msgspec.structs.replace(order, input="" if named["digest"] else order.input)
        asked = (model, version, said, named["digest"], *filter(None, [callback]))
        digest = sha256(msgspec.json.encode(asked))
        job = NewJob(
            uid=uid,
            id=named["job_id"] or uid,
            tenant=whose.tenant,
            owner=whose.owner,
            key=whose.key,
            model=model,
            version=version,
            form="json",
            door=DOOR,
            echo="",
            input=msgspec.json.encode(order),
            timeout_s=None,
            rank=RANK,
            created=now,
            ready_at=now,
            deadline=now + self.terms.expires_s,
            max_attempts=MOST_ATTEMPTS,
            callback=callback,
            idempotency_key=None,
            digest=digest.hexdigest(),
        )
        kept: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def then(verdict: str | RequestError) -> None:
            if kept.done():
                return
            if isinstance(verdict, str):
                kept.set_result(verdict)
            else:
                kept.set_exception(verdict)

        self.intake.add(job, then)
        return await kept

    async def totals_of(self, jobs: Sequence[Job]) -> dict[str, Totals]:
        """Return what has come of runs, by uid."""
        uids = [job.uid for job in jobs]
        return await self.ask(partial(self._book.totals_of, uids)) if uids else {}

    async def order_of(self, job: Job) -> Order | None:
        """Return what a run was asked to do."""
        found = await self.ask(partial(self._book.order_of, job.uid))
        return None if found is None else msgspec.json.decode(found, type=Order)

    # What is not wanted any more.

    async def run(self) -> None:
        """Remove files of runs that are forgotten, and old ones, until cancelled."""
        while True:
            await asyncio.sleep(JANITOR_S)
            try:
                await self.ask(self.clean_up)
            except Unavailable as error:
                log.warning("bulk_files_not_removed", extra={"why": error.detail})
            except Exception:
                log.exception("unexpected_error", extra={"id": "bulk"})

    def clean_up(self) -> None:
        """Remove files of runs that are forgotten, and old ones. Blocks."""
        now = self._wall_clock()
        for file in self._book.old_files(now - self.terms.keep_s, 1000):
            self._book.remove_file(file.id)
            self._place.remove(name_of(file))
        newest = int((now - ABANDONED_S) * 1000)
        for below in ("runs", "files"):
            names = [name for name in self._place.names(below) if _made_ms(name) < newest]
            known = self._book.known(names)
            if below == "files":
                known |= {name for name in names if self._book.find_file(f"file-{name}", None)}
            for name in names:
                if name not in known:
                    self._place.remove(f"{below}/{name}")

    async def ask(self, ask: Callable[[], T]) -> T:
        """Run what blocks.

        Raises:
            Unavailable: Book or place are away.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, ask)
        except (BookAway, PlaceAway) as error:
            raise Unavailable(
                "the store of bulk runs is away: " + str(error), retry_after_s=RETRY_AFTER_S
            ) from error


def name_of(file: File) -> str:
    """Return where a file is in the place."""
    return f"files/{file.id.removeprefix('file-')}"


def _made_ms(name: str) -> int:
    """Return when a uid was made; 0 for what is none, but was left behind by a crash."""
    try:
        return int(name[:12], 16)
    except ValueError:
        return 0
