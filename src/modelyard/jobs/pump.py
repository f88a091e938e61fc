"""Runs jobs: leases them from the book, as many as there is room for, and sends them the way of
every request, at low priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from functools import partial
from random import Random

from modelyard.core.call import Outcome
from modelyard.core.clock import WallClock
from modelyard.core.errors import Cancelled, GivenUp, as_request_error
from modelyard.core.messages import Progress
from modelyard.core.objects import ObjectRef
from modelyard.dispatch.dispatch import ClientCall, Dispatch
from modelyard.jobs.attempts import Attempts
from modelyard.jobs.bulk.order import DOOR as BULK
from modelyard.jobs.bulk.runs import Runs
from modelyard.jobs.finishing import Finishing
from modelyard.jobs.held import Held
from modelyard.jobs.interfaces import BookAway, JobMetrics, QueueBook
from modelyard.jobs.job import WHERE_LOGGED, Ending, Leased, Progressed
from modelyard.jobs.progressing import Progressing
from modelyard.jobs.starting import Sizes, Starter
from modelyard.jobs.verdicts import ending_of

LEASE_S = 30.0
RENEW_S = 3.0
POLL_S = 1.0
GATHER_S = 0.005  # how long what comes together is waited for
BATCHES = 2  # of each runner: one that runs, and one that waits for it
MOST_AT_ONCE = 64
MOST_BYTES = 64 << 20
RELEASE_S = 5.0

log = logging.getLogger(__name__)

OnRan = Callable[[Leased, float], None]


class Pump:
    """Runs jobs until it is cancelled; then it hands back what is not finished.

    Args:
        book: Hands out jobs.
        dispatch: Answers them.
        executor: Runs what blocks.
        holder: Name of this process.
        is_leaving: Whether no more are to be begun.
        on_change: Called with the uids of jobs that were begun or came to an end here.
        on_ran: Told how many seconds of the model's time a job has taken.
        metrics: Counts attempts.
        wall_clock: Unix time, in seconds.
        chance: For pauses.
        attempts: Tells of attempts.
        bulk: Runs those that are bulk runs; None if there are none.
        sizes: Which inputs and results are objects; None for none.
    """

    def __init__(
        self,
        book: QueueBook,
        dispatch: Dispatch,
        executor: Executor,
        *,
        holder: str,
        is_leaving: Callable[[], bool],
        on_change: Callable[[Sequence[str]], None],
        on_ran: OnRan,
        metrics: JobMetrics,
        wall_clock: WallClock,
        chance: Random,
        attempts: Attempts,
        bulk: Runs | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        self._bulk = bulk
        self._starter = Starter(dispatch, sizes)
        self._book = book
        self._dispatch = dispatch
        self._executor = executor
        self._holder = holder
        self._is_leaving = is_leaving
        self._on_change = on_change
        self._on_ran = on_ran
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._chance = chance
        self._attempts = attempts
        self._held: dict[str, Held] = {}
        self._by_model: dict[str, int] = {}
        self._bytes = 0
        self._is_doubted = False
        self._wakened, self._finished = asyncio.Event(), asyncio.Event()
        self._finishing = Finishing(book, executor, self._on_finished)
        self._progressing = Progressing(book, executor, on_change)
        self._is_well = True

    @property
    def running(self) -> int:
        """How many jobs this process runs."""
        return len(self._held)

    def wake(self) -> None:
        """Look for jobs now."""
        self._wakened.set()

    def note_progress(self, request_id: str, progress: Progress) -> None:
        """Keep how far a request is, if it is a job's."""
        held = self._held.get(request_id)
        if held is not None and not held.is_ending:
            note = Progressed(request_id, held.job.attempt, progress.fraction, progress.message)
            self._progressing.add(note)

    def look_at(self, uid: str) -> None:
        """See whether a job is still to be run, which somebody has changed."""
        self._is_doubted = self._is_doubted or uid in self._held
        self.wake()

    async def run(self) -> None:
        """Run jobs."""
        finishing = asyncio.create_task(self._finishing.run())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lease_all())
                group.create_task(self._renew_all())
                group.create_task(self._sweep_all())
                group.create_task(self._progressing.run())
        finally:
            self._release()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    if self._bulk is not None:
                        await self._bulk.ended()
                    await self._finishing.emptied()
            finishing.cancel()

    async def drained(self) -> None:
        """Wait until none of those that were begun here still run."""
        while self._held:
            self._finished.clear()
            await self._finished.wait()

    # From the book to dispatch.

    async def _lease_all(self) -> None:
        while True:
            if self._is_doubted:
                self._is_doubted = False
                await self._asked_book(self._renew)
            found = await self._asked_book(self._lease)
            if not found:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wakened.wait()
                self._wakened.clear()
                await asyncio.sleep(GATHER_S)

    async def _lease(self) -> int:
        if self._is_leaving():
            return 0
        leased = await self._leased(self._room(), is_bulk=False)
        if (bulk := self._bulk) is not None:
            for _ in range(bulk.room):
                some = await self._leased(dict.fromkeys(bulk.models(), 1), is_bulk=True)
                leased += some
                if not some:
                    break
        if leased:
            self._on_change([job.uid for job in leased])
        return len(leased)

    async def _leased(self, wanted: dict[str, int], *, is_bulk: bool) -> list[Leased]:
        """Lease jobs, and begin them."""
        if not wanted:
            return []
        until = self._wall_clock() + LEASE_S
        lease = partial(self._book.lease, wanted, holder=self._holder, until=until, is_bulk=is_bulk)
        leased = await asyncio.get_running_loop().run_in_executor(self._executor, lease)
        for job in leased:
            self._begin(job)
        return leased

    def _room(self) -> dict[str, int]:
        """Return how many more jobs of each model can be begun: enough to keep its runners busy,
        while half of the room of its target stays for those who wait for their answers.
        """
        if self._bytes >= MOST_BYTES:
            return {}
        room: dict[str, int] = {}
        for entry in self._dispatch.catalog.entries():
            if not entry.is_open:
                continue
            name, limits = entry.target.name, entry.announcement.limits
            held = self._by_model.get(name, 0)
            least = max(1, limits.max_in_flight // 2) - entry.in_flight
            more = min(BATCHES * entry.one_batch - held, least, MOST_AT_ONCE)
            if more > 0:
                room[name] = max(more, room.get(name, 0))
        return room

    def _begin(self, job: Leased) -> None:
        if (before := self._held.get(job.uid)) is not None:
            self._let_go(before)  # its lease ran out, and what comes of it is not kept
            if before.call is not None:
                before.call.settle(GivenUp("the job is run again"))
        held = self._held[job.uid] = Held(job)
        if job.door == BULK and self._bulk is not None:
            held.call = self._bulk.start(job, partial(self._end, held))
            return
        self._by_model[job.model] = self._by_model.get(job.model, 0) + 1
        self._bytes += len(job.input)
        held.who = self._attempts.begin(job)
        try:
            held.call = self._starter.start(job, held.who, partial(self._on_answered, held))
        except Exception as error:
            self._end(held, as_request_error(error, log, job.uid, see=WHERE_LOGGED), None)

    # And back.

    def _on_answered(self, held: Held, call: ClientCall) -> None:
        assert call.outcome is not None
        if call.instance_s and held.job.key:
            self._on_ran(held.job, call.instance_s * call.instances)
        self._end(held, call.object or call.outcome, call.entry.target.version)

    def _end(self, held: Held, outcome: Outcome | ObjectRef, version: str | None) -> None:
        if held.is_ending or self._held.get(held.job.uid) is not held:
            return
        held.is_ending = True
        now, chance = self._wall_clock(), self._chance
        ending = ending_of(held.job, outcome, version, now=now, chance=chance)
        self._attempts.end(held.job, held.who, outcome, ending)
        self._finishing.add(ending)

    def _on_finished(self, endings: Sequence[Ending]) -> None:
        for ending in endings:
            self._forget(ending)
        self._on_change([ending.uid for ending in endings])
        self._finished.set()
        self.wake()

    def _forget(self, ending: Ending) -> None:
        held = self._held.get(ending.uid)
        if held is not None and held.job.attempt == ending.attempt:
            self._metrics.ended(held.job.model, ending.state)
            self._let_go(held)

    def _let_go(self, held: Held) -> None:
        del self._held[held.job.uid]
        if held.job.door == BULK:
            return
        self._by_model[held.job.model] -= 1
        self._bytes -= len(held.job.input)

    def _release(self) -> None:
        """Hand back what is not finished, for others to run."""
        for held in list(self._held.values()):
            self._give_up(held, GivenUp("the process stops; the job is run elsewhere"))

    def _give_up(self, held: Held, error: GivenUp) -> None:
        if held.call is not None:
            held.call.settle(error)
        self._end(held, error, None)

    # As long as they run.

    async def _renew_all(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self._asked_book(self._renew)

    async def _renew(self) -> int:
        held = {uid: one.job.attempt for uid, one in self._held.items() if not one.is_ending}
        if not held:
            return 0
        renew = partial(self._book.renew, held, until=self._wall_clock() + LEASE_S)
        still = await asyncio.get_running_loop().run_in_executor(self._executor, renew)
        for uid in held.keys() - still.held:
            if (lost := self._held.get(uid)) is not None and not lost.is_ending:
                is_cancelled = uid in still.cancelled
                self._give_up(lost, Cancelled() if is_cancelled else GivenUp("it is run elsewhere"))
        return len(still.held)

    async def _sweep_all(self) -> None:
        while True:
            await self._asked_book(self._sweep)
            await asyncio.sleep(POLL_S)

    async def _sweep(self) -> int:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._book.sweep)
        return 0

    async def _asked_book(self, ask: Callable[[], Coroutine[None, None, int]]) -> int:
        """Ask the book for something; one that is away is asked again later."""
        try:
            found = await ask()
        except BookAway as error:
            if self._is_well:
                log.error("jobs_stand_still", extra={"why": str(error)})
            self._is_well = False
            return 0
        except Exception:  # a bug: other jobs, and all other requests, have to go on
            log.exception("unexpected_error", extra={"id": "jobs"})
            return 0
        self._is_well = True
        return found
