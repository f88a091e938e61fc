"""A worker's voice: it announces itself every second, and at every change.

The gateways' ears are in ``listening.py``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import msgspec
from aio_pika import Message

from modelyard.core.messages import SERVING, Announcement
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import CATALOG

EVERY_S = 1.0
FORGET_AFTER_S = 6.0
PUBLISH_TIMEOUT_S = 1.0


class Announcer:
    """Says what a worker's pool is like.

    Args:
        url: The broker's.
        name: This worker's.
        is_consuming: Whether its queues are consumed: only then it says that it serves.
        count_waiting: Counts the bundles in its queues.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        is_consuming: Callable[[], bool],
        count_waiting: Callable[[], Awaitable[int | None]],
    ) -> None:
        self._name = name
        self._is_consuming = is_consuming
        self._count_waiting = count_waiting
        self._news: Announcement | None = None
        self._is_leaving = False
        self._changed = asyncio.Event()
        self._session: Session | None = None
        self._supervisor = Supervisor(
            url,
            name=f"modelyard announcer {name}",
            on_open=self._on_open,
            on_lost=self._on_lost,
            is_one_connection=True,
        )

    def announce(self, announcement: Announcement) -> None:
        """Say this from now on."""
        self._news = announcement
        self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._speak_on_and_on())

    async def say_goodbye(self) -> None:
        """Tell the gateways not to count on this worker any more."""
        self._is_leaving = True
        await self._speak(is_last=True)

    async def _speak_on_and_on(self) -> None:
        while not self._is_leaving:
            self._changed.clear()
            await self._speak(is_last=False)
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _speak(self, *, is_last: bool) -> None:
        session, news = self._session, self._news
        if session is None or news is None:
            return
        if news.state in SERVING and not self._is_consuming():
            return  # not yet, or not now
        news = msgspec.structs.replace(news, queued=await self._count_waiting())
        if self._is_leaving and not is_last:
            return
        message = Message(
            envelope.encode(envelope.News(self._name, news, is_last)),
            type=envelope.ANNOUNCEMENT,
            message_id=secrets.token_hex(8),
            expiration=FORGET_AFTER_S,
        )
        try:
            exchange = session.exchanges[CATALOG]
            await exchange.publish(message, "", mandatory=False, timeout=PUBLISH_TIMEOUT_S)
        except TimeoutError:
            return
        except LOST:
            session.lost.set()

    async def _on_open(self, session: Session) -> None:
        self._session = session
        self._changed.set()

    def _on_lost(self) -> None:
        self._session = None
