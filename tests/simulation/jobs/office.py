"""The jobs of one gateway, put together as ``compose/jobs.py`` does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from modelyard.core.errors import RequestError
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.gateway.submitting import Submitting, Terms
from modelyard.jobs.attempts import Attempts
from modelyard.jobs.intake import Intake
from modelyard.jobs.job import Ending, Leased, Uids
from modelyard.jobs.pump import Pump
from modelyard.store.job_queue import JobQueue
from tests.simulation.jobs.database import Database

if TYPE_CHECKING:
    from tests.simulation.parts import Front

EXPIRES_S = 200.0
MAX_ATTEMPTS = 4


class Book(JobQueue):
    """The book as it is, with a look at what it does."""

    front: Front

    def lease(
        self, wanted: Mapping[str, int], *, holder: str, until: float, is_bulk: bool = False
    ) -> list[Leased]:
        """See that nobody else holds what is leased."""
        leased = super().lease(wanted, holder=holder, until=until, is_bulk=is_bulk)
        self.front.world.checks.jobs.on_leased(holder, leased)
        return leased

    def finish(self, endings: Sequence[Ending]) -> set[str]:
        """See that only those who hold a job have ended it."""
        database = self.front.world.database
        assert database is not None
        rows = database.ask("SELECT uid, attempt FROM jobs WHERE state = 'running'")
        running = {row.uid: row.attempt for row in rows}
        mine = {one.uid for one in endings if running.get(one.uid) == one.attempt}
        finished = super().finish(endings)
        if finished != mine:
            self.front.world.checks.problem(f"{finished} were finished, held were {mine}")
        return finished


class Dispatching:
    """Dispatch, as the pump sees it, and a count of what becomes of its requests."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self.outcomes: Counter[tuple[str, str]] = Counter()  # by code and detail

    @property
    def catalog(self) -> Catalog:
        """See ``Dispatch``."""
        return self._dispatch.catalog

    def start(
        self, ask: Ask, on_answered: Callable[[ClientCall], None], *given: Any, **more: Any
    ) -> ClientCall:
        """See ``Dispatch``."""
        return self._dispatch.start(ask, partial(self._on_answered, on_answered), *given, **more)

    def _on_answered(self, on_answered: Callable[[ClientCall], None], call: ClientCall) -> None:
        if isinstance(call.outcome, RequestError):
            self.outcomes[call.outcome.code, call.outcome.detail] += 1
        on_answered(call)


class JobCounts:
    """See ``jobs.interfaces.JobMetrics``."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.kept = 0

    def accepted(self, model: str) -> None:
        self.kept += 1

    def ended(self, model: str, state: str) -> None:
        self.ends[state] += 1

    def told(self, state: str) -> None:
        self.ends[f"told {state}"] += 1


class Office:
    """The jobs of one gateway.

    Args:
        front: The gateway.
        database: Has them.
    """

    def __init__(self, front: Front, database: Database) -> None:
        self.front = front
        self.database = database
        self.counts = JobCounts()
        self.dispatching = Dispatching(front.dispatch)
        self.is_closing = False
        self.book = Book(database.engine, wall_clock=front.wall_clock)
        self.book.front = front
        self._random = Random(front.chance.random())
        self.pump: Pump

    def open(self) -> Submitting:
        """Make what runs jobs, and return what takes them; called in its process."""
        self.pump = Pump(
            self.book,
            self.dispatching,  # type: ignore[arg-type]
            self.database,
            holder=self.front.name,
            is_leaving=lambda: self.is_closing,
            on_change=lambda uids: None,
            on_ran=lambda job, seconds: None,
            metrics=self.counts,
            wall_clock=self.front.wall_clock,
            chance=self._random,
            attempts=Attempts(None, None, is_logged=False, wall_clock=self.front.wall_clock),
        )
        intake = Intake(self.book, self.database, on_kept=self.pump.wake, metrics=self.counts)
        terms = Terms(EXPIRES_S, MAX_ATTEMPTS, lambda url: None)
        return Submitting(
            intake,
            terms,
            dispatch=self.front.dispatch,
            uids=Uids(self._random.randbytes),
            clock=self.front.clock,
            wall_clock=self.front.wall_clock,
        )

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Give what runs."""
        return [self.pump.run()]

    async def drain(self, timeout_s: float) -> None:
        """Begin no more, and wait for those that run."""
        self.is_closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.pump.drained()

    async def cancel(self, uid: str) -> bool:
        """Cancel a job, as ``Desk`` does."""
        cancel = partial(self.book.cancel, uid)
        is_changed = await asyncio.get_running_loop().run_in_executor(self.database, cancel)
        self.pump.look_at(uid)
        return is_changed
