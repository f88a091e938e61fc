"""Callbacks in the store: one is added in the transaction in which its job comes to its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa

from modelyard.store.job_rows import shown_state
from modelyard.store.tables import DELIVERIES, JOBS


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
                "body": msgspec.json.encode(body).decode(),
                **{"state": "pending", "created": now, "due": now, "attempts": 0},
            }
        )
    if rows:
        connection.execute(DELIVERIES.insert(), rows)
