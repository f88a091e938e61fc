"""Whose turn it is: owners whose jobs of a model wait are taken in a circle.

Each look is a step in the index of queued jobs for each owner that it returns, however many jobs
they have.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from modelyard.jobs.bulk.order import DOOR as BULK
from modelyard.store.tables import JOBS

IS_BULK = JOBS.c.door == sa.literal(BULK, literal_execute=True)
"""As it stands in the index."""

_NEXT = (
    "SELECT min(tenant) FROM jobs WHERE state = 'queued' AND model = :model "
    "AND door {door} 'bulk' AND tenant {comparison} {tenant}"
)
_WAITING = (
    "WITH RECURSIVE found(tenant, number) AS (SELECT ({first}), 1 UNION ALL "
    "SELECT ({following}), number + 1 FROM found "
    "WHERE found.tenant IS NOT NULL AND number < :most) "
    "SELECT tenant FROM found WHERE tenant IS NOT NULL"
)


def _waiting(comparison: str, door: str) -> sa.TextClause:
    first = _NEXT.format(door=door, comparison=comparison, tenant=":after")
    following = _NEXT.format(door=door, comparison=">", tenant="found.tenant")
    return sa.text(_WAITING.format(first=first, following=following))


_AFTER = {False: _waiting(">", "<>"), True: _waiting(">", "=")}
_FROM = {False: _waiting(">=", "<>"), True: _waiting(">=", "=")}
"""By whether they are of bulk runs."""


def owners_in_turn(
    connection: sa.Connection, model: str, *, is_bulk: bool, after: str | None, most: int
) -> Sequence[str]:
    """Return the tenants that have queued jobs of a model, at most so many, in their order.

    ``is_bulk``: whether only bulk runs are meant, or all others. ``after``: who had the last turn;
    None to begin anywhere.
    """
    asked = {"model": model, "after": after or "", "most": most}
    if after is None:
        return connection.execute(_FROM[is_bulk], asked).scalars().all()
    found = list(connection.execute(_AFTER[is_bulk], asked).scalars())
    if len(found) < most:
        asked |= {"after": "", "most": most - len(found)}
        again = connection.execute(_FROM[is_bulk], asked).scalars()
        found += [tenant for tenant in again if tenant <= after]
    return found
