"""What the page of keys and usage shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from modelyard.access.accounts import Accounts
from modelyard.access.keyring import Key
from modelyard.access.limits import AMOUNTS, Limit
from modelyard.access.usage import DayOfUsage
from modelyard.console.caller import Caller

_WORDS = {
    "rate": "{} per second",
    "burst": "{} at once",
    "in_flight": "{} in flight",
    "per_day": "{} per day",
    "per_month": "{} per month",
}


class KeyRow(NamedTuple):
    """A key; ``in_flight``: of its requests, where limits count them."""

    key: Key
    limits: list[str]
    in_flight: int
    is_expired: bool


class Spent(NamedTuple):
    """What one caller has used of one model in some days; ``share``: of all their requests."""

    owner: str
    key: str
    model: str
    requests: int
    instances: int
    model_s: float
    today: int
    share: float


def key_rows(
    keys: Iterable[Key], accounts: Accounts | None, caller: Caller, *, now: float
) -> list[KeyRow]:
    """Return the keys that a caller may see: all, or its own."""
    meters = {account.key: account.meters for account in accounts or ()}
    own = None if caller.principal is None else caller.principal.id
    return [
        KeyRow(
            key=key,
            limits=list(map(told, key.limits)),
            in_flight=max((meter.in_flight for meter in meters.get(key.id, ())), default=0),
            is_expired=key.expires is not None and key.expires <= now,
        )
        for key in sorted(keys, key=lambda key: (key.owner, key.id))
        if caller.is_admin or key.id == own
    ]


def spent(days: Sequence[DayOfUsage], caller: Caller, *, today: str) -> list[Spent]:
    """Return sums by key and model, of what a caller may see: all, or its own; the most first."""
    own = None if caller.principal is None else caller.principal.id
    sums: dict[tuple[str, str, str], list[float]] = {}
    for day, used in days:
        if not (caller.may_read or used.key == own):
            continue
        found = sums.setdefault((used.owner, used.key, used.model), [0, 0, 0.0, 0])
        found[0] += used.requests
        found[1] += used.instances
        found[2] += used.model_s
        found[3] += used.requests if day == today else 0
    total = sum(found[0] for found in sums.values()) or 1
    rows = [
        Spent(*who, int(found[0]), int(found[1]), found[2], int(found[3]), found[0] / total)
        for who, found in sums.items()
    ]
    return sorted(rows, key=lambda row: -row.requests)


def told(limit: Limit) -> str:
    """Return a limit in words."""
    amounts = {name: getattr(limit, name) for name in AMOUNTS}
    words = [_WORDS[name].format(f"{n:g}") for name, n in amounts.items() if n is not None]
    return f"{', '.join(words)} ({limit.count}, {limit.models})"
