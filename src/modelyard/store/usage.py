"""Usage in the store: what each caller used of each model on each day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.access.audit import Act
from modelyard.access.limits import Used
from modelyard.access.usage import DayOfUsage
from modelyard.store.errors import telling
from modelyard.store.tables import AUDIT, USAGE

_SUMS = ("requests", "instances", "weight", "model_s")
_LONGEST = 400
_DIALECTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class UsageStore:
    """What was used, in a database. All methods raise StoreError.

    Args:
        engine: Of the database, whose schema is up to date.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._insert = _DIALECTS[engine.dialect.name]

    def add(self, day: str, used: Iterable[Used], acts: Iterable[Act] = ()) -> None:
        """Add what was used on a day, as ``2026-01-31``, to what is known of it, and to the audit
        what was done.
        """
        rows = [{**one._asdict(), "day": day, **_cut(one)} for one in used]
        done = [act._asdict() for act in acts]
        made: Any = self._insert(USAGE)  # each of the two types has what is called here
        grown = {name: USAGE.c[name] + made.excluded[name] for name in _SUMS}
        upsert = made.on_conflict_do_update(index_elements=["day", "key", "model"], set_=grown)
        with telling(self._engine), self._engine.begin() as connection:
            if rows:
                connection.execute(upsert, rows)
            if done:
                connection.execute(AUDIT.insert(), done)

    def read(self, first: str, last: str, keys: Sequence[str] | None = None) -> list[DayOfUsage]:
        """Return the usage from one day to another, of some keys or of all, by day."""
        query = USAGE.select().where(USAGE.c.day >= first, USAGE.c.day <= last)
        if keys is not None:
            query = query.where(USAGE.c.key.in_(keys))
        order = USAGE.c.day, USAGE.c.owner, USAGE.c.key, USAGE.c.model
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(*order)).all()
        names = Used._fields
        return [DayOfUsage(row.day, Used(*(row._mapping[n] for n in names))) for row in rows]

    def acts(self) -> list[Act]:
        """Return the audit, the oldest first."""
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(AUDIT.select().order_by(AUDIT.c.id)).all()
        told = [tuple(row._mapping[name] or "" for name in Act._fields[1:]) for row in rows]
        return [Act(row.at, *texts) for row, texts in zip(rows, told, strict=True)]


def _cut(used: Used) -> dict[str, str]:
    """Return the texts that an identity provider may make as long as it likes."""
    return {"key": used.key[:_LONGEST], "owner": used.owner[:_LONGEST]}
