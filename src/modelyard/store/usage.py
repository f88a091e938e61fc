"""Usage in the store: what each caller used of each model on each day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from modelyard.access.audit import Act
from modelyard.access.limits import Used
from modelyard.access.usage import DayOfUsage
from modelyard.store.changing import INSERTS
from modelyard.store.errors import telling
from modelyard.store.tables import AUDIT, KEYS, USAGE

_SUMS = ("requests", "instances", "weight", "model_s")


class StoredAct(NamedTuple):
    """An act as the audit has it: ``Act``, and where something was changed, what it is now, what it
    was, and why.
    """

    at: float
    actor: str
    action: str
    subject: str
    what: str | None = None
    was: str | None = None
    why: str | None = None


class UsageStore:
    """What was used, in a database. All methods raise StoreError.

    Args:
        engine: Of the database, whose schema is up to date.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._insert = INSERTS[engine.dialect.name]

    def add(self, day: str, used: Iterable[Used], acts: Iterable[Act] = ()) -> None:
        """Add what was used on a day, as ``2026-01-31``, to what is known of it, and to the audit
        what was done.
        """
        # In one order for all gateways, which otherwise might wait for each other's rows.
        rows = [{**one._asdict(), "day": day} for one in sorted(used)]
        done = [act._asdict() for act in acts]
        made = self._insert(USAGE)
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

    def acts(
        self, *, model: str = "", owner: str = "", act: str = "", since: float = 0.0
    ) -> list[StoredAct]:
        """Return the audit, the oldest first.

        ``model``: of this alone; ``owner``: by this one, or with a key of theirs; ``act``: with
        these letters in what was done; ``since``: Unix time.
        """
        query = AUDIT.select().where(AUDIT.c.at >= since).order_by(AUDIT.c.id)
        if model:
            query = query.where(AUDIT.c.subject == model)
        if owner:
            theirs = sa.select(KEYS.c.id).where(KEYS.c.owner == owner)
            query = query.where((AUDIT.c.actor == owner) | AUDIT.c.actor.in_(theirs))
        if act:
            query = query.where(AUDIT.c.action.contains(act, autoescape=True))
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return list(map(_act, rows))

    def last_acts(self, subject: str, most: int) -> list[StoredAct]:
        """Return what was done last to a model or a key, the newest first."""
        query = AUDIT.select().where(AUDIT.c.subject == subject).order_by(AUDIT.c.id.desc())
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query.limit(most)).all()
        return list(map(_act, rows))


def _act(row: sa.Row[Any]) -> StoredAct:
    return StoredAct(*(row._mapping[name] for name in StoredAct._fields))
