"""The bulk runs of this process: begun by the pump that leases their jobs, handed back to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

import msgspec

from modelyard.core.call import Outcome
from modelyard.core.clock import Clock
from modelyard.core.errors import GivenUp, InvalidInput, RequestError, as_request_error
from modelyard.dispatch.dispatch import Dispatch
from modelyard.dispatch.entry import Entry
from modelyard.jobs.bulk.asking import RowAsker
from modelyard.jobs.bulk.chunks import Lines
from modelyard.jobs.bulk.interfaces import BulkBook, Place, Urls
from modelyard.jobs.bulk.mapping import Mapping, shape_of
from modelyard.jobs.bulk.order import Chunk, Order
from modelyard.jobs.bulk.room import Room, Window
from modelyard.jobs.bulk.run import Asker, Run
from modelyard.jobs.bulk.sources import FileSource
from modelyard.jobs.bulk.writing import lines_of
from modelyard.jobs.job import WHERE_LOGGED, Leased

MOST_RUNS = 4
"""At a time in one process. More wait in their queue, for any process."""

Then = Callable[[bytes | RequestError, str | None], None]
"""Called with what a run has brought, and the version that answered."""

MakeAsker = Callable[[Order, Leased, Room], tuple[Asker, Lines]]
"""Makes what answers the lines of a file of requests, and says how that is written."""

OnRan = Callable[[Leased, Chunk], None]

log = logging.getLogger(__name__)


class BulkCall:
    """A run that is under way."""

    def __init__(self) -> None:
        self.is_over = False
        self.task: asyncio.Task[None] | None = None
        self._on_over: Callable[[], None] = lambda: None

    def leave(self) -> None:
        """Begin nothing more; what is under way is kept."""
        self.is_over = True

    def settle(self, outcome: Outcome) -> None:
        """End it: nobody wants it any longer."""
        self.is_over = True
        self._on_over()

    def watch(self, on_over: Callable[[], None]) -> None:
        """Call ``on_over`` when it is ended."""
        self._on_over = on_over


class Runs:
    """Runs bulk jobs.

    Args:
        book: Keeps chunks.
        place: Keeps files.
        urls: Opens URLs; None if none are.
        dispatch: Answers pieces.
        executor: Runs what blocks; of its own, as reading and writing take long.
        clock: Deadlines are readings of it.
        on_ran: Told of each chunk.
        make_asker: For files of requests.
    """

    def __init__(
        self,
        book: BulkBook,
        place: Place,
        urls: Urls | None,
        dispatch: Dispatch,
        executor: Executor,
        *,
        clock: Clock,
        on_ran: OnRan,
        make_asker: MakeAsker,
    ) -> None:
        self._book = book
        self._place = place
        self._urls = urls
        self._dispatch = dispatch
        self._executor = executor
        self._clock = clock
        self._on_ran = on_ran
        self._make_asker = make_asker
        self._calls: set[BulkCall] = set()
        self._windows: dict[str, Window] = {}
        self._is_leaving = False

    @property
    def room(self) -> int:
        """How many more may be begun."""
        return 0 if self._is_leaving else MOST_RUNS - len(self._calls)

    def models(self) -> list[str]:
        """Return the models whose runs may be begun."""
        return [entry.target.name for entry in self._dispatch.catalog.entries() if entry.is_open]

    def leave(self) -> None:
        """Hand everything back soon: the process stops."""
        self._is_leaving = True
        for call in list(self._calls):
            call.leave()

    async def ended(self) -> None:
        """Wait until none is under way."""
        tasks = [call.task for call in self._calls if call.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def start(self, job: Leased, then: Then) -> BulkCall:
        """Begin a run. ``then`` is called once, later."""
        call = BulkCall()
        self._calls.add(call)
        call.task = asyncio.create_task(self._run(job, call, then))
        return call

    async def _run(self, job: Leased, call: BulkCall, then: Then) -> None:
        version: str | None = None
        outcome: bytes | RequestError
        try:
            order = msgspec.json.decode(job.input, type=Order)
            entry = self._dispatch.catalog.resolve(job.model, job.version)
            version = entry.target.version
            outcome = await self._make(job, order, entry, call).run()
        except asyncio.CancelledError:
            outcome = GivenUp("the process stops")
        except Exception as error:
            outcome = as_request_error(error, log, job.uid, see=WHERE_LOGGED)
        finally:
            self._calls.discard(call)
        then(outcome, version)

    def _make(self, job: Leased, order: Order, entry: Entry, call: BulkCall) -> Run:
        window = self._windows.setdefault(job.model, Window())
        known, schema = entry.announcement, entry.announcement.schema
        is_single, mapping = bool(order.endpoint), None
        room = Room(
            self._dispatch, job, window, partial(getattr, call, "is_over"), is_single=is_single
        )
        asker: Asker
        if is_single:
            asker, lines = self._make_asker(order, job, room)
        else:
            batch = known.max_batch_size
            mapping = Mapping(shape_of(b"" if schema is None else schema.input), order.columns)
            asker = RowAsker(self._dispatch, job, room, clock=self._clock, batch=batch)
            lines = lines_of(order.output_format, order.keep)
        call.watch(asker.give_up)

        def most() -> int:
            return 1 if is_single else known.max_batch_size * window.batches

        source = FileSource(order, mapping, place=self._place, urls=self._urls, most=most)
        return Run(
            job,
            order,
            source=source,
            asker=asker,
            lines=lines,
            book=self._book,
            place=self._place,
            executor=self._executor,
            on_kept=partial(self._on_ran, job),
            deliver=partial(self._deliver, order),
        )

    def _deliver(self, order: Order, name: str) -> None:
        """Put an output where it is wanted as well. Blocks."""
        if not order.output_url:
            return
        if self._urls is None:
            raise InvalidInput("this server writes to no URLs")
        with self._place.open(name) as stream:
            self._urls.put(order.output_url, stream)
