"""A gateway's ear: adds up what the workers of each target announce, and tells the catalog.

A worker that has been silent for ``FORGET_AFTER_S`` is gone. A gateway that starts later knows all
after a second: of workers from themselves, of targets that sleep from the other gateways.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import msgspec

from modelyard.core.messages import Announcement, State
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.announcing import (
    EVERY_S,
    FORGET_AFTER_S,
    PUBLISH_TIMEOUT_S,
    publish_news,
)
from modelyard.transports.amqp.connection import BlockedError, Delivered
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import CATALOG, declare_own_queue

Announce = Callable[[Announcement], None]

_BEST_FIRST: tuple[State, ...] = ("ready", "recovering", "starting", "failed", "stopped", "asleep")


class Listener:
    """Hears the workers, and remembers those targets whose last worker went to sleep.

    Args:
        addresses: The broker's.
        name: This gateway's.
        announce: Told what is true of a target, at every change.
        is_blocked: Whether the broker takes no messages now, and so no worker can be heard.
        on_queue_lost: Told of a target whose queue was deleted, and when by ``time.monotonic()``.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        name: str,
        announce: Announce,
        is_blocked: Callable[[], bool],
        on_queue_lost: Callable[[Target, float], None],
    ) -> None:
        self._is_blocked = is_blocked
        self._on_queue_lost = on_queue_lost
        self._name = name
        self._announce = announce
        self._heard: dict[Target, dict[str, tuple[float, Announcement]]] = {}
        self._asleep: dict[Target, tuple[float, Announcement]] = {}
        self._session: Session | None = None
        self._first_heard = 0.0
        self._supervisor = Supervisor(
            addresses,
            name=f"modelyard listener {name}",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=PUBLISH_TIMEOUT_S,
            is_one_connection=True,
        )

    @property
    def knows_all(self) -> bool:
        """Whether every worker that is up had the time to announce itself."""
        return bool(self._first_heard) and time.monotonic() - self._first_heard > 1.5 * EVERY_S

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._tick_on_and_on())

    def is_gone(self, target: Target) -> None:
        """Forget a target that slept: its queue is not there any more."""
        if (known := self._asleep.pop(target, None)) is not None:
            self._announce(_without_workers(known[1], "stopped"))

    async def _on_open(self, session: Session) -> None:
        queue = await declare_own_queue(session.consuming, CATALOG, self._name)
        await session.consuming.consume(queue, self._on_news, no_ack=True)
        self._excuse_silence()
        self._session = session
        self._first_heard = self._first_heard or time.monotonic()

    def _excuse_silence(self) -> None:
        """Give all workers time again: they could not be heard."""
        now = time.monotonic()
        for workers in self._heard.values():
            for worker, (_, announcement) in workers.items():
                workers[worker] = (now, announcement)

    def _on_lost(self) -> None:
        self._session = None

    def _on_news(self, message: Delivered) -> None:
        if message.properties.message_type != envelope.ANNOUNCEMENT:
            return  # another version's: it announces itself in ours as well, or is not for us
        try:
            news = envelope.decode_news(message.body)
        except msgspec.MsgspecError:
            return
        if news.announcement.state == "asleep":
            self._on_asleep(news.announcement)
            return
        target = news.announcement.target
        workers = self._heard.setdefault(target, {})
        if news.is_last:
            workers.pop(news.worker, None)
        else:
            workers[news.worker] = (time.monotonic(), news.announcement)
        self._tell(news.announcement)
        if news.queue_lost_s is not None:
            self._on_queue_lost(target, time.monotonic() - news.queue_lost_s)

    def _on_asleep(self, announcement: Announcement) -> None:
        """Learn of a sleeping target from another gateway, or that we need not say it now."""
        target = announcement.target
        if not self._heard.get(target):
            if target not in self._asleep:
                self._announce(announcement)
            self._asleep[target] = (time.monotonic(), announcement)

    async def _tick_on_and_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S * random.uniform(0.5, 1.0))
            if self._is_blocked():
                self._excuse_silence()
            elif self._session is not None:
                self._forget(time.monotonic() - FORGET_AFTER_S)
                await self._remind(self._session, time.monotonic() - EVERY_S)

    def _forget(self, since: float) -> None:
        for workers in self._heard.values():
            for worker, (heard, announcement) in list(workers.items()):
                if heard < since:
                    del workers[worker]
                    self._tell(announcement)

    async def _remind(self, session: Session, since: float) -> None:
        """Say what sleeps, unless another gateway has just said it."""
        for target, (said, announcement) in list(self._asleep.items()):
            if said >= since:
                continue
            self._asleep[target] = (time.monotonic(), announcement)
            try:
                await publish_news(session.publishing, envelope.News(self._name, announcement))
            except BlockedError:
                return
            except LOST as error:
                session.lose(str(error))
                return

    def _tell(self, last: Announcement) -> None:
        """Announce the sum of a target's workers; ``last`` stands for it if there are none."""
        said = [announcement for _, announcement in self._heard[last.target].values()]
        if said:
            self._asleep.pop(last.target, None)
            self._announce(_sum(said))
        elif last.scale_to_zero:
            asleep = _without_workers(last, "asleep")
            self._asleep[last.target] = (0.0, asleep)
            self._announce(asleep)
        else:
            self._announce(_without_workers(last, "stopped"))


def _sum(said: list[Announcement]) -> Announcement:
    best = min(said, key=lambda announcement: _BEST_FIRST.index(announcement.state))
    return msgspec.structs.replace(
        best,
        workers=len(said),
        runners=sum(announcement.runners for announcement in said),
        runners_ready=sum(announcement.runners_ready for announcement in said),
        # Each counts the same queues, at its own moment.
        queued=max((a.queued for a in said if a.queued is not None), default=None),
    )


def _without_workers(last: Announcement, state: State) -> Announcement:
    return msgspec.structs.replace(
        last,
        state=state,
        reason="no worker is up",
        workers=0,
        runners=0,
        runners_ready=0,
        queued=None,
    )
