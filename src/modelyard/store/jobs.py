"""Jobs in the store: taken, told of, and changed by hand. How they are run is in ``job_queue.py``.

Nothing here looks at more rows than it returns, but for ``place_of``, which has an end: a table of
millions is as fast as an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from modelyard.core.clock import WallClock
from modelyard.jobs.bulk.order import DOOR as BULK
from modelyard.jobs.interfaces import BookAway
from modelyard.jobs.job import Accepted, Job, NewJob, Place, Question, Result
from modelyard.store.away import away
from modelyard.store.changing import begin
from modelyard.store.deliveries import add_deliveries
from modelyard.store.job_rows import OF_JOB, insert_into, job_of, object_in
from modelyard.store.job_turns import IS_BULK, owners_in_turn
from modelyard.store.tables import BULK_CHUNKS, DELIVERIES, JOB_INPUTS, JOB_RESULTS, JOBS

OnObjectsGone = Callable[[Sequence[str]], None]

_MOST_COUNTED = 1000
_MOST_OWNERS = 50
_MEASURED_S = 60.0
_TRIES = 5
_AGAIN = ("failed", "cancelled", "expired")


class JobStore:
    """The jobs in a database; see ``jobs/interfaces.py``.

    Args:
        engine: Of the database, whose schema is up to date.
        wall_clock: Unix time, in seconds.

    Attributes:
        on_objects_gone: Called with the uids of jobs that are forgotten and had objects.
    """

    def __init__(self, engine: sa.Engine, *, wall_clock: WallClock) -> None:
        self.on_objects_gone: OnObjectsGone = lambda _: None
        self.engine = engine
        self.wall_clock = wall_clock

    def accept(self, jobs: Sequence[NewJob]) -> list[Accepted]:
        """See ``IntakeBook``. All are kept in one transaction."""
        kept: dict[str, Accepted] = {}
        for _ in range(_TRIES):
            new = [job for job in jobs if job.uid not in kept]
            try:
                with away(self.engine):
                    self._insert(new)
            except BookAway as error:
                if not isinstance(error.__cause__, sa.exc.IntegrityError):
                    raise
                with away(self.engine), self.engine.connect() as connection:
                    kept |= _find_kept(connection, new)  # one was there already
            else:
                kept |= {job.uid: Accepted(job.id, job.digest) for job in new}
                return [kept[job.uid] for job in jobs]
        raise BookAway("jobs with these ids come and go faster than they can be looked at")

    def _insert(self, jobs: Sequence[NewJob]) -> None:
        if not jobs:
            return
        now = self.wall_clock()
        with begin(self.engine) as connection:
            insert_into(connection, jobs, now)

    def revisions(self, uids: Sequence[str]) -> dict[str, int]:
        """See ``ReadingBook``."""
        query = sa.select(JOBS.c.uid, JOBS.c.revision).where(JOBS.c.uid.in_(uids))
        with away(self.engine), self.engine.connect() as connection:
            return {row.uid: row.revision for row in connection.execute(query)}

    def find(self, job_id: str, tenant: str | None) -> Job | None:
        """See ``ReadingBook``. Of several tenants' jobs with one id it is the newest."""
        query = sa.select(*OF_JOB).where(JOBS.c.id == job_id)
        if tenant is not None:
            query = query.where(JOBS.c.tenant == tenant)
        with away(self.engine), self.engine.connect() as connection:
            row = connection.execute(query.order_by(JOBS.c.uid.desc()).limit(1)).one_or_none()
        return None if row is None else job_of(row)

    def list(self, question: Question) -> list[Job]:
        """See ``ReadingBook``."""
        query = sa.select(*OF_JOB).order_by(JOBS.c.uid.desc()).limit(question.most)
        if question.tenant is not None:
            query = query.where(JOBS.c.tenant == question.tenant)
        if question.model is not None:
            query = query.where(JOBS.c.model == question.model)
        if question.door is not None:
            query = query.where(JOBS.c.door == question.door)
        if question.before is not None:
            query = query.where(JOBS.c.uid < question.before)
        if (state := question.state) == "queued":
            query = query.where(JOBS.c.state.in_(("queued", "delayed")))
        elif state is not None:
            query = query.where(JOBS.c.state == sa.literal(state, literal_execute=True))
        with away(self.engine), self.engine.connect() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def place_of(self, job: Job) -> Place:
        """See ``ReadingBook``."""
        is_queued = JOBS.c.state == sa.literal("queued", literal_execute=True)
        mine = sa.tuple_(sa.literal(job.rank), sa.literal(job.ready_at), sa.literal(job.uid))
        others = sa.tuple_(JOBS.c.rank, JOBS.c.ready_at, JOBS.c.uid)
        is_bulk = job.door == BULK
        queued = sa.select(JOBS.c.uid).where(is_queued, JOBS.c.model == job.model)
        queued = queued.where(IS_BULK if is_bulk else ~IS_BULK)
        first = queued.where(JOBS.c.tenant == job.tenant, others < mine)
        since = self.wall_clock() - _MEASURED_S
        done = sa.select(JOBS.c.model).where(JOBS.c.finished > since)
        with away(self.engine), self.engine.connect() as connection:
            own = before = len(connection.execute(first.limit(_MOST_COUNTED)).all())
            # Each of the others has a turn before each of its owner's turns.
            tenants = owners_in_turn(
                connection, job.model, is_bulk=is_bulk, after=None, most=_MOST_OWNERS
            )
            for tenant in tenants:
                if tenant != job.tenant and before < _MOST_COUNTED:
                    most = min(own + 1, _MOST_COUNTED - before)
                    theirs = queued.where(JOBS.c.tenant == tenant).limit(most)
                    before += len(connection.execute(theirs).all())
            found = connection.execute(
                done.order_by(JOBS.c.finished.desc()).limit(_MOST_COUNTED)
            ).scalars()
            per_s = sum(model == job.model for model in found) / _MEASURED_S
        is_exact = before < _MOST_COUNTED and len(tenants) < _MOST_OWNERS
        return Place(before, is_exact, per_s)

    def result_of(self, uid: str) -> Result | None:
        """See ``ReadingBook``."""
        query = sa.select(JOB_RESULTS).where(JOB_RESULTS.c.uid == uid)
        with away(self.engine), self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Result(row.content, object_in(row.object))

    def cancel(self, uid: str) -> bool:
        """See ``ChangingBook``."""
        now = self.wall_clock()
        is_open = sa.and_(JOBS.c.uid == uid, JOBS.c.finished.is_(None))
        ended = {"state": "cancelled", "finished": now, "revision": JOBS.c.revision + 1}
        with away(self.engine), begin(self.engine) as connection:
            change = JOBS.update().where(is_open).values(**ended, lease_until=None, holder=None)
            is_changed = bool(connection.execute(change).rowcount)
            if is_changed:
                add_deliveries(connection, [uid], now)
        return is_changed

    def retry(self, uid: str, *, deadline_in_s: float) -> bool:
        """See ``ChangingBook``."""
        now = self.wall_clock()
        is_it = sa.and_(JOBS.c.uid == uid, JOBS.c.state.in_(_AGAIN))
        change = (
            JOBS.update()
            .where(is_it)
            .values(
                state="queued",
                revision=JOBS.c.revision + 1,
                failures=0,
                finished=None,
                ready_at=now,
                deadline=now + deadline_in_s,
                error=None,
            )
        )
        with away(self.engine), begin(self.engine) as connection:
            return bool(connection.execute(change).rowcount)

    def remove(self, uid: str) -> bool:
        """See ``ChangingBook``."""
        with away(self.engine), begin(self.engine) as connection:
            is_it = sa.and_(JOBS.c.uid == uid, JOBS.c.finished.is_not(None))
            is_over = connection.execute(sa.select(JOBS.c.uid).where(is_it)).first() is not None
            if is_over:
                gone = remove_jobs(connection, [uid])
        if is_over:
            self.on_objects_gone(gone)
        return is_over

    def known(self, uids: Sequence[str]) -> set[str]:
        """See ``RetentionBook``."""
        query = sa.select(JOBS.c.uid).where(JOBS.c.uid.in_(uids))
        with away(self.engine), self.engine.connect() as connection:
            return set(connection.execute(query).scalars())


def remove_jobs(connection: sa.Connection, uids: Sequence[str]) -> list[str]:
    """Forget jobs, and all that belongs to them; returns those that had objects."""
    with_objects = sa.union(
        *(
            sa.select(table.c.uid).where(table.c.uid.in_(uids), table.c.object.is_not(None))
            for table in (JOB_INPUTS, JOB_RESULTS)
        )
    )
    found = list(connection.execute(with_objects).scalars())
    for table in (JOB_INPUTS, JOB_RESULTS, DELIVERIES, BULK_CHUNKS, JOBS):
        connection.execute(table.delete().where(table.c.uid.in_(uids)))
    return found


def _find_kept(connection: sa.Connection, jobs: Iterable[NewJob]) -> dict[str, Accepted]:
    """Return, by uid, what is there already of jobs that are to be kept."""
    found: dict[str, Accepted] = {}
    for job in jobs:
        is_it: sa.ColumnElement[Any] = JOBS.c.id == job.id
        if job.idempotency_key is not None:
            is_it = sa.or_(is_it, JOBS.c.idempotency_key == job.idempotency_key)
        query = sa.select(JOBS.c.id, JOBS.c.digest).where(is_it, JOBS.c.tenant == job.tenant)
        if (row := connection.execute(query).first()) is not None:
            found[job.uid] = Accepted(row.id, row.digest)
    return found
