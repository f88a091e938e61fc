"""The database of jobs, as gateways have it: some way off, and at times away.

What is asked of it takes its way there, and its answer the way back. So a gateway may be killed
when its transaction is done and it does not know, and a connection may break in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from functools import cache
from random import Random
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from modelyard.jobs.interfaces import BookAway
from modelyard.store.schema import _begin_sqlite, _set_up_sqlite
from modelyard.store.tables import METADATA
from tests.simulation.loop import PROCESS, VirtualLoop

T = TypeVar("T")

WAY_S = (0.0003, 0.003)
AWAY_S = (0.001, 0.8)  # until whoever asks knows
ENDS = ("succeeded", "failed", "cancelled", "expired")

_STEPS = """
CREATE TABLE steps (uid TEXT, old TEXT, new TEXT, attempt INTEGER, holder TEXT, lease_until REAL,
                    at REAL)
"""
_NOTE = """
CREATE TRIGGER note_step AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state BEGIN
INSERT INTO steps VALUES (OLD.uid, OLD.state, NEW.state, NEW.attempt, OLD.holder, OLD.lease_until,
                          now_s());
END
"""


class Step(NamedTuple):
    """A job went from one state to another. ``holder`` and ``lease_until`` are those before."""

    uid: str
    old: str
    new: str
    attempt: int
    holder: str | None
    lease_until: float | None
    at: float


_loops: list[VirtualLoop] = []
"""That of the simulation that runs, whose time triggers take for theirs."""


def _now() -> float:
    return _loops[-1].time()


@cache
def _engine() -> sa.Engine:
    """Make the engine, once: its tables are emptied for each simulation."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    sa.event.listen(engine, "connect", _set_up)
    sa.event.listen(engine, "begin", _begin_sqlite)
    with engine.begin() as connection:
        METADATA.create_all(connection)
        connection.exec_driver_sql(_STEPS)
        connection.exec_driver_sql(_NOTE)
    return engine


def _set_up(connection: Any, record: object) -> None:
    _set_up_sqlite(connection, record)
    connection.create_function("now_s", 0, _now)


class Database(Executor):
    """It; to gateways, the threads in which they ask it.

    Args:
        loop: Time.
        chance: For delays.

    Attributes:
        is_away: Whether it answers nobody.
        is_dumb: Whether what it answers is lost: what it is told, it does.
    """

    def __init__(self, loop: VirtualLoop, chance: Random) -> None:
        self.loop = loop
        self.chance = chance
        self.is_away = self.is_dumb = False
        self.engine = _engine()
        self._there = Context()  # it is in none of the processes
        _loops[:] = [loop]
        with self.engine.begin() as connection:
            for table in ("jobs", "job_inputs", "job_results", "deliveries", "steps"):
                connection.exec_driver_sql(f"DELETE FROM {table}")

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have work done there, and tell its caller; see ``VirtualLoop.run_in_executor``."""
        done: asyncio.Future[T] = self.loop.create_future()
        process = PROCESS.get()
        context = process.context if process is not None else None
        way_s = self.chance.uniform(*WAY_S)
        self.loop.call_later(way_s, self._do, work, done, context, context=self._there)
        return done

    def _do(self, work: Callable[[], T], done: asyncio.Future[T], context: Context | None) -> None:
        outcome: T | Exception
        if self.is_away:
            outcome = BookAway("sqlite://: it is away")
        else:
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            if self.is_dumb:
                outcome = BookAway("sqlite://: the connection was lost")
        way_s = self.chance.uniform(*(AWAY_S if isinstance(outcome, BookAway) else WAY_S))
        self.loop.call_later(way_s, _tell, done, outcome, context=context)

    def steps(self) -> list[Step]:
        """Give the steps of all jobs, in their order."""
        return [Step._make(row) for row in self.ask("SELECT * FROM steps ORDER BY rowid")]

    def ask(self, query: str) -> list[sa.Row[Any]]:
        """Look, past all faults."""
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql(query).all())


def _tell(done: asyncio.Future[T], outcome: T | Exception) -> None:
    if done.done():
        return
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
