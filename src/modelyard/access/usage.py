"""Usage: what callers have used goes to the store, where quotas find that of all gateways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from modelyard.access.accounts import Accounts
from modelyard.access.audit import Act, Audit
from modelyard.access.limits import Used, day_of
from modelyard.core.clock import Clock

KEEP_S = 2.0

log = logging.getLogger(__name__)


class DayOfUsage(NamedTuple):
    """What was used on a day, as ``2026-01-31``, of UTC."""

    day: str
    used: Used


class UsageBook(Protocol):
    """Where usage is kept. Its methods may block, and raise if it is away."""

    def add(self, day: str, used: Iterable[Used], acts: Iterable[Act]) -> None:
        """Add what was used on a day to what is known of it, and to the audit what was done."""
        ...

    def read(self, first: str, last: str, keys: Sequence[str] | None = None) -> list[DayOfUsage]:
        """Return the usage from one day to another, of some keys or of all."""
        ...


OnUsed = Callable[[Used], None]


class Bookkeeper:
    """Moves what accounts have used into the book, and to the metrics.

    Args:
        accounts: The accounts.
        audit: What was done.
        book: Where usage is kept; None to keep it in the metrics alone.
        on_used: Called with what was used.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self,
        accounts: Accounts,
        audit: Audit,
        book: UsageBook | None,
        *,
        on_used: OnUsed,
        wall_clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._audit = audit
        self._book = book
        self._on_used = on_used
        self._wall_clock = wall_clock
        self._is_well = True

    async def run(self) -> None:
        """Keep usage until cancelled, and what is left then."""
        try:
            while True:
                await asyncio.sleep(KEEP_S)
                await self.keep()
        finally:
            await self.keep()

    async def keep(self) -> None:
        """Keep what was used since the last time."""
        day = day_of(self._wall_clock())
        taken = [(account, account.take_used()) for account in self._accounts]
        acts = self._audit.take()
        try:
            if self._book is not None:
                used = [one for _, used in taken for one in used]
                await asyncio.to_thread(self._book.add, day, used, acts)
        except Exception as error:  # the book is away: nothing is lost, and nobody waits
            self._complain(error)
            for account, used in taken:
                account.add_used(used)
            self._audit.put_back(acts)
            return
        for account, used in taken:
            account.note_kept(used)
            for one in used:
                self._on_used(one)
        try:
            await self._look_up(day)
        except Exception as error:  # what was added is kept: put back, it would be counted twice
            self._complain(error)
            return
        self._is_well = True
        self._accounts.forget_idle()

    def _complain(self, error: Exception) -> None:
        if self._is_well:
            log.error("usage_not_kept", extra={"why": str(error)})
        self._is_well = False

    async def _look_up(self, day: str) -> None:
        """Tell accounts what is known of this month, where it counts."""
        accounts = [account for account in self._accounts if account.has_quota]
        if self._book is None or not accounts:
            return
        keys = [account.key for account in accounts]
        found = await asyncio.to_thread(self._book.read, f"{day[:8]}01", day, keys)
        known: dict[str, list[DayOfUsage]] = {}
        for one in found:
            known.setdefault(one.used.key, []).append(one)
        for account in accounts:
            account.note_known(day, known.get(account.key, []))
