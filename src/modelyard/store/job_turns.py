"""Whose turn it is: owners whose jobs of a model wait are taken in a circle.

Each look is a step in the index of queued jobs for each owner that it returns, however many jobs
they have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa

from modelyard.jobs.bulk.order import DOOR as BULK
from modelyard.store.tables import JOBS

IS_BULK = JOBS.c.door == sa.literal(BULK, literal_execute=True)
"""As it stands in the index."""

_QUEUED = "state = 'queued' AND model = :model AND door {door} 'bulk'"
_NEXT = (
    "SELECT tenant FROM jobs WHERE {queued} AND tenant {comparison} {tenant} "
    "ORDER BY model, tenant, rank, ready_at LIMIT 1"
)
"""In the order of the index: for the smallest of all, PostgreSQL may look at each of them."""
_WAITING = (
    "WITH RECURSIVE found(tenant, number) AS (SELECT ({first}), 1 UNION ALL "
    "SELECT ({following}), number + 1 FROM found "
    "WHERE found.tenant IS NOT NULL AND number < :most) "
    "SELECT tenant FROM found WHERE tenant IS NOT NULL"
)
_FIRST = (
    "FROM jobs WHERE {queued} AND tenant = {tenant} AND deadline > :now "
    "ORDER BY rank, ready_at LIMIT :share"
)
_PICKED = {
    "sqlite": (
        "t.value",
        "SELECT j.uid FROM json_each(:tenants) AS t CROSS JOIN jobs AS j "
        "ON j.uid IN (SELECT uid {first}) ORDER BY t.key, j.rank, j.ready_at LIMIT :most",
    ),
    "postgresql": (
        "t.tenant",
        "SELECT j.uid FROM json_array_elements_text(CAST(:tenants AS json)) WITH ORDINALITY "
        "AS t(tenant, number) CROSS JOIN LATERAL "
        "(SELECT uid, rank, ready_at {first} FOR UPDATE SKIP LOCKED) AS j "
        "ORDER BY t.number, j.rank, j.ready_at LIMIT :most",
    ),
}
"""By dialect: what a tenant is there, and the query."""


def _waiting(comparison: str, door: str) -> sa.TextClause:
    queued = _QUEUED.format(door=door)
    first = _NEXT.format(queued=queued, comparison=comparison, tenant=":after")
    following = _NEXT.format(queued=queued, comparison=">", tenant="found.tenant")
    return sa.text(_WAITING.format(first=first, following=following))


def _picked(tenant: str, query: str, door: str) -> sa.TextClause:
    first = _FIRST.format(queued=_QUEUED.format(door=door), tenant=tenant)
    return sa.text(query.format(first=first))


_AFTER = {False: _waiting(">", "<>"), True: _waiting(">", "=")}
_FROM = {False: _waiting(">=", "<>"), True: _waiting(">=", "=")}
_PICK = {
    (dialect, is_bulk): _picked(*how, "=" if is_bulk else "<>")
    for dialect, how in _PICKED.items()
    for is_bulk in (False, True)
}
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


def jobs_in_turn(
    connection: sa.Connection,
    model: str,
    tenants: Sequence[str],
    *,
    is_bulk: bool,
    most: int,
    now: float,
) -> Sequence[str]:
    """Return the uids of the next queued jobs of a model, at most so many: of each of the tenants
    as many, if each has as many. In PostgreSQL they are locked, and those that others have locked
    are left out.
    """
    asked = {
        **{"model": model, "tenants": json.dumps(list(tenants)), "now": now, "most": most},
        "share": -(-most // len(tenants)),
    }
    pick = _PICK[connection.dialect.name, is_bulk]
    return connection.execute(pick, asked).scalars().all()
