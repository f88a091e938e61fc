"""Jobs in the store as a queue: leased by those that run them, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from modelyard.core.clock import WallClock
from modelyard.core.errors import Failure
from modelyard.jobs.job import Ending, Leased, Progressed, Renewed
from modelyard.store.away import away
from modelyard.store.changing import begin
from modelyard.store.deliveries import add_deliveries
from modelyard.store.job_rows import (
    DELAYED,
    ENDED,
    INPUTS,
    OF_LEASE,
    PROGRESSED,
    ended_row,
    leased_of,
    packed,
)
from modelyard.store.job_turns import jobs_in_turn, owners_in_turn
from modelyard.store.jobs import JobStore
from modelyard.store.tables import JOB_INPUTS, JOB_RESULTS, JOBS

MOST_ATTEMPTS = 1000
_AT_ONCE = 500
_LOST = Failure(
    "unavailable", f"whoever ran it was gone before it was finished, {MOST_ATTEMPTS} times"
)
_QUEUED, _RUNNING, _DELAYED = (
    JOBS.c.state == sa.literal(state, literal_execute=True)
    for state in ("queued", "running", DELAYED)
)
"""As they stand in the indexes, which databases use for what is written the same alone."""
_MODELS = sa.text(
    "WITH RECURSIVE found(model) AS (SELECT (SELECT model FROM jobs WHERE state = 'queued' "
    "ORDER BY model, tenant, rank, ready_at LIMIT 1) UNION ALL "
    "SELECT (SELECT model FROM jobs WHERE state = 'queued' AND model > found.model "
    "ORDER BY model, tenant, rank, ready_at LIMIT 1) "
    "FROM found WHERE found.model IS NOT NULL) SELECT model FROM found"
)
"""The models that have queued jobs: a step in the index for each, however many jobs there are."""


class JobQueue(JobStore):
    """The whole book of jobs: also those that are to run; see ``QueueBook``."""

    def __init__(self, engine: sa.Engine, *, wall_clock: WallClock) -> None:
        super().__init__(engine, wall_clock=wall_clock)
        # By model and kind, who had the last turn here.
        self._turns: dict[tuple[str, bool], str] = {}

    def lease(
        self, wanted: Mapping[str, int], *, holder: str, until: float, is_bulk: bool = False
    ) -> list[Leased]:
        """See ``QueueBook``."""
        now = self.wall_clock()
        with away(self.engine), self.engine.connect() as connection:
            waiting = {model for (model,) in connection.execute(_MODELS) if model is not None}
        if waiting.isdisjoint(wanted):
            return []
        with away(self.engine), begin(self.engine) as connection:
            taken = {
                **{"state": "running", "holder": holder, "lease_until": until},
                "attempt": JOBS.c.attempt + 1,
                "revision": JOBS.c.revision + 1,
                "started": sa.func.coalesce(JOBS.c.started, now),
                **{"progress": None, "progress_message": None},
            }
            rows: list[sa.Row[Any]] = []
            for model in waiting & wanted.keys():
                asked = (connection, model, wanted[model], taken)
                rows += self._take(*asked, is_bulk=is_bulk)
            if not rows:
                return []
            of = JOB_INPUTS.c.uid.in_([row.uid for row in rows])
            inputs = {row.uid: row for row in connection.execute(INPUTS.where(of))}
        return [leased_of(row, inputs[row.uid]) for row in rows]

    def _take(
        self,
        connection: sa.Connection,
        model: str,
        most: int,
        taken: Mapping[str, object],
        *,
        is_bulk: bool,
    ) -> list[sa.Row[Any]]:
        """Take jobs of a model: as many of each owner, if each has as many; else what is left goes
        to the others.
        """
        now = self.wall_clock()
        taking: list[sa.Row[Any]] = []
        while left := most - len(taking):
            after = self._turns.get((model, is_bulk))
            tenants = owners_in_turn(connection, model, is_bulk=is_bulk, after=after, most=left)
            asked = (connection, model, tenants)
            uids = jobs_in_turn(*asked, is_bulk=is_bulk, most=left, now=now) if tenants else ()
            if not uids:
                break
            change = JOBS.update().where(JOBS.c.uid.in_(uids)).values(**taken)
            rows = {row.uid: row for row in connection.execute(change.returning(*OF_LEASE))}
            self._turns[model, is_bulk] = rows[uids[-1]].tenant
            taking += map(rows.__getitem__, uids)
        return taking

    def renew(self, held: Mapping[str, int], *, until: float) -> Renewed:
        """See ``QueueBook``. A job that is forgotten was cancelled before."""
        query = sa.select(JOBS.c.uid, JOBS.c.attempt, JOBS.c.state)
        with away(self.engine), begin(self.engine) as connection:
            query = query.where(JOBS.c.uid.in_(list(held))).with_for_update()
            found = {row.uid: row for row in connection.execute(query)}
            mine = [row for row in found.values() if held[row.uid] == row.attempt]
            still = {row.uid for row in mine if row.state == "running"}
            change = JOBS.update().where(JOBS.c.uid.in_(still)).values(lease_until=until)
            connection.execute(change)
        cancelled = {row.uid for row in mine if row.state == "cancelled"}
        return Renewed(still, cancelled | (held.keys() - found.keys()))

    def note_progress(self, notes: Sequence[Progressed]) -> None:
        """See ``QueueBook``."""
        rows = [
            {"job": uid, "its_attempt": attempt, "fraction": fraction, "message": message or None}
            for uid, attempt, fraction, message in sorted(notes)
        ]
        with away(self.engine), begin(self.engine) as connection:
            connection.execute(PROGRESSED, rows)

    def finish(self, endings: Sequence[Ending]) -> set[str]:
        """See ``QueueBook``. An attempt whose job runs no longer, or as another one, changes
        nothing: so a job has one result, whoever else has run it.
        """
        now = self.wall_clock()
        uids = [ending.uid for ending in endings]
        query = sa.select(JOBS.c.uid, JOBS.c.attempt).where(JOBS.c.uid.in_(uids), _RUNNING)
        with away(self.engine), begin(self.engine) as connection:
            running = connection.execute(query.order_by(JOBS.c.uid).with_for_update()).all()
            attempts = {row.uid: row.attempt for row in running}
            mine = [one for one in endings if attempts.get(one.uid) == one.attempt]
            if not mine:
                return set()
            connection.execute(ENDED, [ended_row(ending, now) for ending in mine])
            results = [
                {"uid": one.uid, "content": one.output or b"", "object": packed(one.object)}
                for one in mine
                if one.state == "succeeded"
            ]
            if results:
                connection.execute(JOB_RESULTS.insert(), results)
            add_deliveries(connection, [one.uid for one in mine if one.state != "queued"], now)
        return {ending.uid for ending in mine}

    def sweep(self) -> None:
        """See ``QueueBook``."""
        now = self.wall_clock()
        with away(self.engine), begin(self.engine) as connection:
            _promote(connection, now)
            _take_back(connection, now)
            _expire(connection, now)


def _some(*where: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition of some rows that nobody else changes now."""
    query = sa.select(JOBS.c.uid).where(*where).limit(_AT_ONCE).with_for_update(skip_locked=True)
    return JOBS.c.uid.in_(query)


def _promote(connection: sa.Connection, now: float) -> None:
    ready = _some(_DELAYED, JOBS.c.ready_at <= now)
    connection.execute(JOBS.update().where(ready).values(state="queued"))


def _take_back(connection: sa.Connection, now: float) -> None:
    """Queue what was leased by somebody who is gone."""
    lost = _some(_RUNNING, JOBS.c.lease_until < now, JOBS.c.attempt < MOST_ATTEMPTS)
    again = {"state": "queued", "lease_until": None, "holder": None}
    connection.execute(JOBS.update().where(lost).values(**again, revision=JOBS.c.revision + 1))
    hopeless = _some(_RUNNING, JOBS.c.lease_until < now)
    end = {"state": "failed", "finished": now, "error": msgspec.json.encode(_LOST).decode()}
    _end(connection, hopeless, end, now)


def _expire(connection: sa.Connection, now: float) -> None:
    is_waiting = JOBS.c.state.in_(("queued", DELAYED))
    late = _some(JOBS.c.finished.is_(None), JOBS.c.deadline <= now, is_waiting)
    _end(connection, late, {"state": "expired", "finished": now}, now)


def _end(
    connection: sa.Connection, which: sa.ColumnElement[bool], end: dict[str, object], now: float
) -> None:
    ended = {**end, "revision": JOBS.c.revision + 1, "lease_until": None, "holder": None}
    change = JOBS.update().where(which).values(ended).returning(JOBS.c.uid)
    add_deliveries(connection, list(connection.execute(change).scalars()), now)
