"""One bulk run: reads, asks and keeps at once, with as little in memory as that takes.

Pieces are answered in any order, and kept in theirs. What is read ahead, under way and not yet kept
is bounded by the size of the queue between those who read and those who keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from typing import IO, Protocol, TypeVar

import msgspec

from modelyard.core.call import Outcome
from modelyard.core.errors import GivenUp, InvalidInput, RequestError, Unavailable
from modelyard.jobs.bulk.asking import Answered
from modelyard.jobs.bulk.chunks import Chunks, Gathered, Lines
from modelyard.jobs.bulk.interfaces import BulkBook, Place, PlaceAway
from modelyard.jobs.bulk.order import Chunk, Mark, Order, Summary
from modelyard.jobs.bulk.pieces import Piece, Pieces
from modelyard.jobs.bulk.writing import (
    remove_parts,
    was_made,
    write_errors,
    write_output,
)
from modelyard.jobs.interfaces import BookAway
from modelyard.jobs.job import Leased

READ_AT_ONCE = 8
MOST_PENDING = 96
MOST_PENDING_BYTES = 16 << 20
RETRY_AFTER_S = 5
T = TypeVar("T")

log = logging.getLogger(__name__)


class Asker(Protocol):
    """Answers pieces; see ``asking.RowAsker``."""

    async def has_room(self) -> None:
        """Wait until one more piece may be sent."""
        ...

    def send(self, piece: Piece) -> asyncio.Future[tuple[Outcome, float]]:
        """Send a piece."""
        ...

    async def settle(self, piece: Piece, outcome: Outcome, model_s: float) -> Answered:
        """Return what comes of a piece in the end."""
        ...

    def give_up(self) -> None:
        """Wait for nothing any longer."""
        ...


class Source(Protocol):
    """What is read."""

    def open(self, mark: Mark) -> tuple[Pieces, IO[bytes]]:
        """Return the pieces from there on, and what is to be closed."""
        ...

    def progress(self, mark: Mark) -> float | None:
        """Return how far a mark is, from 0 to 1; None if that is not known."""
        ...


Sent = tuple[Piece, "asyncio.Future[tuple[Outcome, float]]"]


class Run:
    """A run, from where the last attempt has come to its end.

    Args:
        job: The lease.
        order: What is asked.
        source: What is read.
        asker: Answers it.
        lines: How what comes of it is written.
        book: Keeps chunks.
        place: Keeps files.
        executor: Runs what blocks.
        on_kept: Told of each chunk.
        deliver: Puts the output, by its name in the place, where else it is wanted. Blocks.
    """

    def __init__(
        self,
        job: Leased,
        order: Order,
        *,
        source: Source,
        asker: Asker,
        lines: Lines,
        book: BulkBook,
        place: Place,
        executor: Executor,
        on_kept: Callable[[Chunk], None],
        deliver: Callable[[str], None],
    ) -> None:
        self._lines = lines
        self._deliver = deliver
        self._job = job
        self._order = order
        self._source = source
        self._asker = asker
        self._book = book
        self._place = place
        self._executor = executor
        self._on_kept = on_kept
        self._pending: asyncio.Queue[Sent | None] = asyncio.Queue(MOST_PENDING)
        self._pending_bytes = 0
        self._taken = asyncio.Event()
        self._given_up: GivenUp | None = None

    async def run(self) -> bytes:
        """Run to the end; returns the result of the job.

        Raises:
            RequestError: It has come to no end: an InvalidInput is for ever.
        """
        try:
            return await self._run()
        except* RequestError as group:
            raise _first(group) from None
        except* (BookAway, PlaceAway) as away:
            raise Unavailable(str(_first(away)), retry_after_s=RETRY_AFTER_S) from None
        finally:
            self._asker.give_up()

    async def _run(self) -> bytes:
        before = await self._blocking(partial(self._book.chunks_of, self._job.uid))
        chunks = Chunks(
            self._job.uid,
            self._job.attempt,
            book=self._book,
            place=self._place,
            before=before,
            input_bytes=self._order.input_bytes,
            lines=self._lines,
        )
        pieces, stream = await self._blocking(partial(self._source.open, chunks.mark))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_all(pieces))
                group.create_task(self._keep_all(chunks))
        finally:
            with contextlib.suppress(Exception):
                await self._blocking(stream.close)
        if self._given_up is not None:
            raise self._given_up
        return await self._blocking(self._finish)

    async def _send_all(self, pieces: Pieces) -> None:
        def read() -> list[Piece]:
            some: list[Piece] = []
            for piece in islice(pieces, READ_AT_ONCE):
                some.append(piece)
                time.sleep(0)  # others may want the interpreter
            return some

        reading = asyncio.ensure_future(self._blocking(read))
        try:
            while some := await reading:
                reading = asyncio.ensure_future(self._blocking(read))
                for piece in some:
                    while self._pending_bytes > MOST_PENDING_BYTES:
                        self._taken.clear()
                        await self._taken.wait()
                    await self._send(piece)
        except GivenUp as error:  # the process stops: what was sent is kept
            self._given_up = error
        finally:
            if not reading.done():
                with contextlib.suppress(Exception):
                    await asyncio.shield(reading)
        await self._pending.put(None)

    async def _send(self, piece: Piece) -> None:
        await self._asker.has_room()
        if piece.numbers:
            answer = self._asker.send(piece)
        else:
            answer = asyncio.get_running_loop().create_future()
            answer.set_result((b"[]", 0.0))
        self._pending_bytes += len(piece.body)
        await self._pending.put((piece, answer))

    async def _keep_all(self, chunks: Chunks) -> None:
        while (sent := await self._pending.get()) is not None:
            piece, answer = sent
            outcome, model_s = await answer
            answered = await self._asker.settle(piece, outcome, model_s)
            self._pending_bytes -= len(piece.body)
            self._taken.set()
            if chunks.add(answered, piece.mark):
                await self._keep(chunks, chunks.take())
        await self._keep(chunks, chunks.take())

    async def _keep(self, chunks: Chunks, gathered: Gathered | None) -> None:
        if gathered is None:
            return
        progress = self._source.progress(gathered.mark)
        chunk = await self._blocking(partial(chunks.keep, gathered, progress))
        self._on_kept(chunk)

    def _finish(self) -> bytes:
        """Make the output of all chunks. Blocks."""
        order, uid = self._order, self._job.uid
        chunks = self._book.chunks_of(uid)
        if not was_made(self._place, uid, chunks):
            write_output(self._place, uid, chunks, output=order.output_format, keep=order.keep)
            write_errors(self._place, uid, chunks)
        self._deliver(f"runs/{uid}/output")
        remove_parts(self._place, uid)
        summary = Summary(
            rows=sum(chunk.rows for chunk in chunks),
            failed=sum(chunk.failed for chunk in chunks),
            output_bytes=self._place.size(f"runs/{uid}/output") or 0,
            error_bytes=self._place.size(f"runs/{uid}/errors") or 0,
        )
        return msgspec.json.encode(summary)

    async def _blocking(self, ask: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, ask)
        except (RequestError, BookAway, PlaceAway):
            raise
        except FileNotFoundError as error:
            raise InvalidInput(
                f"the input is not there, or no longer: {self._order.input}"
            ) from error
        except OSError as error:
            raise PlaceAway(f"a file of the run: {error.strerror or error}") from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first of several; what ends a run for ever goes before what ends an attempt."""
    found = list(_leaves(group))
    return next((one for one in found if isinstance(one, InvalidInput)), found[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for one in group.exceptions:
        leaves += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return leaves
