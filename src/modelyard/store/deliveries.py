"""Callbacks in the store. One is added in the transaction in which its job comes to its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from modelyard.core.clock import WallClock
from modelyard.jobs.delivery import Attempt, Delivery, Parcel
from modelyard.store.away import away
from modelyard.store.changing import begin
from modelyard.store.job_rows import shown_state
from modelyard.store.tables import DELIVERIES, JOBS

_LONGEST_HOST = 255
_LONGEST_ERROR = 500
_OF_PARCEL = [DELIVERIES.c[field.name] for field in msgspec.structs.fields(Parcel)]
_OF_DELIVERY = [DELIVERIES.c[field.name] for field in msgspec.structs.fields(Delivery)]


class DeliveryStore:
    """The callbacks in a database; see ``jobs/interfaces.py``.

    Args:
        engine: Of the database, whose schema is up to date.
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, engine: sa.Engine, *, wall_clock: WallClock) -> None:
        self._engine = engine
        self._wall_clock = wall_clock

    def due(
        self, most: int, *, hosts: Collection[str], tenants: Collection[str], until: float
    ) -> list[Parcel]:
        """See ``DeliveryBook``."""
        now = self._wall_clock()
        first = (
            sa.select(DELIVERIES.c.id)
            .where(DELIVERIES.c.due <= now)
            .order_by(DELIVERIES.c.due)
            .limit(most)
        )
        if hosts:
            first = first.where(DELIVERIES.c.host.not_in(hosts))
        if tenants:
            first = first.where(DELIVERIES.c.tenant.not_in(tenants))
        change = (
            DELIVERIES.update()
            .where(DELIVERIES.c.id.in_(first.with_for_update(skip_locked=True)))
            .values(due=until, attempts=DELIVERIES.c.attempts + 1)
            .returning(*_OF_PARCEL)
        )
        with away(self._engine):
            with self._engine.connect() as connection:  # mostly there are none, so nothing to lock
                if connection.execute(first.limit(1)).first() is None:
                    return []
            with begin(self._engine) as connection:
                rows = connection.execute(change).all()
        return [Parcel(**row._mapping) for row in rows]

    def note(self, attempt: Attempt) -> None:
        """See ``DeliveryBook``."""
        error = attempt.error
        values = {
            **{"state": attempt.state, "status": attempt.status, "due": attempt.due},
            "error": None if error is None else error[:_LONGEST_ERROR],
            "finished": None if attempt.state == "pending" else self._wall_clock(),
        }
        change = DELIVERIES.update().where(DELIVERIES.c.id == attempt.id).values(values)
        with away(self._engine), begin(self._engine) as connection:
            connection.execute(change)

    def deliveries_of(self, uid: str) -> list[Delivery]:
        """See ``DeliveryBook``."""
        query = sa.select(*_OF_DELIVERY).where(DELIVERIES.c.uid == uid)
        with away(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(DELIVERIES.c.created)).all()
        return [Delivery(**row._mapping) for row in rows]

    def replay(self, delivery_id: str) -> bool:
        """See ``DeliveryBook``."""
        again = {"state": "pending", "due": self._wall_clock(), "attempts": 0, "finished": None}
        change = DELIVERIES.update().where(DELIVERIES.c.id == delivery_id).values(again)
        with away(self._engine), begin(self._engine) as connection:
            return bool(connection.execute(change).rowcount)


def add_deliveries(connection: sa.Connection, uids: Sequence[str], now: float) -> None:
    """Add the callbacks of jobs that have come to their ends in this transaction."""
    if not uids:
        return
    columns = (JOBS.c.uid, JOBS.c.id, JOBS.c.tenant, JOBS.c.state, JOBS.c.revision, JOBS.c.callback)
    query = sa.select(*columns).where(JOBS.c.uid.in_(uids), JOBS.c.callback.is_not(None))
    at = datetime.fromtimestamp(now, UTC).isoformat()
    rows = []
    for row in connection.execute(query):
        kind = f"job.{shown_state(row.state)}"
        body = {"type": kind, "timestamp": at, "data": {"id": row.id, "state": row.state}}
        rows.append(
            {
                "id": f"job_{row.uid}_{row.revision}",
                **{"uid": row.uid, "tenant": row.tenant, "url": row.callback, "kind": kind},
                "host": urlsplit(row.callback).netloc[:_LONGEST_HOST],
                "body": msgspec.json.encode(body).decode(),
                **{"state": "pending", "created": now, "due": now, "attempts": 0},
            }
        )
    if rows:
        connection.execute(DELIVERIES.insert(), rows)
