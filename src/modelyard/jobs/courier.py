"""Sends callbacks, each until it has arrived or there is no hope left.

A slow receiver holds up nobody else: those for hosts and tenants that have enough under way are
left for later, and others go before them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from concurrent.futures import Executor
from email.utils import mktime_tz, parsedate_tz
from functools import partial
from random import Random

from modelyard.core.clock import WallClock
from modelyard.core.errors import RequestError
from modelyard.jobs.addresses import Destinations
from modelyard.jobs.delivery import Attempt, Parcel
from modelyard.jobs.interfaces import BookAway, DeliveryBook, JobMetrics
from modelyard.jobs.sending import Answer, NotSent, Sender
from modelyard.jobs.signing import Signer

SCHEDULE_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between attempts: as Standard Webhooks proposes."""
JITTER = 0.2
LONGEST_RETRY_AFTER_S = 86_400
LEASE_S = 60.0
POLL_S = 1.0
MOST, MOST_OF_TENANT, MOST_OF_HOST = 128, 32, 8
_GONE = 410

log = logging.getLogger(__name__)


class Courier:
    """Sends callbacks until it is cancelled.

    Args:
        book: Has them.
        sender: Sends one.
        signer: Signs them.
        destinations: Where they may go.
        executor: Runs what blocks.
        metrics: Counts attempts.
        wall_clock: Unix time, in seconds.
        chance: For pauses, so that not all come back together.
    """

    def __init__(
        self,
        book: DeliveryBook,
        sender: Sender,
        signer: Signer,
        destinations: Destinations,
        executor: Executor,
        *,
        metrics: JobMetrics,
        wall_clock: WallClock,
        chance: Random,
    ) -> None:
        self._book = book
        self._sender = sender
        self._signer = signer
        self._destinations = destinations
        self._executor = executor
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._chance = chance
        self._hosts: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()
        self._sending: set[asyncio.Task[None]] = set()
        self._wakened = asyncio.Event()
        self._is_well = True

    def wake(self) -> None:
        """Look for callbacks now."""
        self._wakened.set()

    async def run(self) -> None:
        """Send callbacks."""
        try:
            while True:
                self._wakened.clear()
                if not await self._take():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._wakened.wait()
        finally:
            for task in self._sending:
                task.cancel()

    async def _take(self) -> int:
        """Begin to send what is due; returns how many that were."""
        if (room := MOST - len(self._sending)) <= 0:
            return 0
        busy = [host for host, count in self._hosts.items() if count >= MOST_OF_HOST]
        full = [tenant for tenant, count in self._tenants.items() if count >= MOST_OF_TENANT]
        due = partial(
            self._book.due,
            min(room, MOST_OF_HOST),
            hosts=busy,
            tenants=full,
            until=self._wall_clock() + LEASE_S,
        )
        try:
            parcels = await asyncio.get_running_loop().run_in_executor(self._executor, due)
        except BookAway as error:
            if self._is_well:
                log.error("callbacks_stand_still", extra={"why": str(error)})
            self._is_well = False
            return 0
        except Exception:
            log.exception("unexpected_error", extra={"id": "callbacks"})
            return 0
        self._is_well = True
        for parcel in parcels:
            self._hosts[parcel.host] += 1
            self._tenants[parcel.tenant] += 1
            task = asyncio.create_task(self._deliver(parcel))
            self._sending.add(task)
            task.add_done_callback(partial(self._on_done, parcel))
        return len(parcels)

    def _on_done(self, parcel: Parcel, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        for counter, name in ((self._hosts, parcel.host), (self._tenants, parcel.tenant)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]
        self.wake()

    async def _deliver(self, parcel: Parcel) -> None:
        now = self._wall_clock()
        headers = self._signer.headers(parcel.id, parcel.body, parcel.tenant, now)
        try:
            parts = self._destinations.check(parcel.url)
            answer = await self._sender.send(parts, headers, parcel.body.encode())
            attempt = self._verdict_on(parcel, answer)
        except RequestError as error:  # the setting has changed
            attempt = Attempt(id=parcel.id, state="failed", error=error.detail)
        except NotSent as error:
            attempt = self._failed(parcel, str(error), is_final=error.is_final)
        except Exception as error:
            log.exception("unexpected_error", extra={"id": parcel.id})
            attempt = self._failed(parcel, type(error).__name__)
        self._metrics.told(attempt.state)
        note = partial(self._book.note, attempt)
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, note)
        except BookAway as error:  # it is sent again when its lease ends
            log.warning("callback_not_noted", extra={"id": parcel.id, "why": str(error)})

    def _verdict_on(self, parcel: Parcel, answer: Answer) -> Attempt:
        status = answer.status
        if 200 <= status < 300:
            return Attempt(id=parcel.id, state="delivered", status=status)
        if status == _GONE:
            why = "the receiver wants no more of them"
            return Attempt(id=parcel.id, state="failed", status=status, error=why)
        why = f"the receiver answered {status}"
        if 300 <= status < 400:
            why += "; redirects are not followed"
        wanted_s = seconds_until(answer.retry_after, self._wall_clock())
        return self._failed(parcel, why, status=status, wanted_s=wanted_s)

    def _failed(
        self,
        parcel: Parcel,
        why: str,
        *,
        is_final: bool = False,
        status: int | None = None,
        wanted_s: float = 0.0,
    ) -> Attempt:
        if is_final or parcel.attempts > len(SCHEDULE_S):
            return Attempt(id=parcel.id, state="failed", status=status, error=why)
        pause_s = SCHEDULE_S[parcel.attempts - 1] * (1 + JITTER * self._chance.random())
        due = self._wall_clock() + max(pause_s, min(wanted_s, LONGEST_RETRY_AFTER_S))
        return Attempt(id=parcel.id, state="pending", status=status, error=why, due=due)


def seconds_until(retry_after: str, now: float) -> float:
    """Return the seconds that a header Retry-After asks for, in either of its forms (RFC 9110,
    10.2.3); 0 if it is neither. ``now``: Unix time, in seconds.
    """
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    date = parsedate_tz(retry_after)
    try:
        return 0.0 if date is None else max(0.0, mktime_tz(date) - now)
    except (ValueError, OverflowError):  # a year that no calendar has
        return 0.0
