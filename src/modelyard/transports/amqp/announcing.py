"""A worker's voice: it announces itself every second, and at every change.

The gateways' ears are in ``listening.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from modelyard.core.messages import SERVING, Announcement
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.connection import BlockedError, Connection
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import CATALOG

EVERY_S = 1.0
FORGET_AFTER_S = 6.0
PUBLISH_TIMEOUT_S = 1.0


class Announcer:
    """Says what a worker's pool is like.

    Args:
        addresses: The broker's.
        name: This worker's.
        is_consuming: Whether its queues are consumed: only then it says that it serves.
        count_waiting: Counts the bundles in its queues.
        queue_lost_s: Tells how long ago one of them was deleted, if it ever was.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        name: str,
        is_consuming: Callable[[], bool],
        count_waiting: Callable[[], Awaitable[int | None]],
        queue_lost_s: Callable[[], float | None],
    ) -> None:
        self._name = name
        self._is_consuming = is_consuming
        self._count_waiting = count_waiting
        self._queue_lost_s = queue_lost_s
        self._news: Announcement | None = None
        self._is_leaving = False
        self._changed = asyncio.Event()
        self._session: Session | None = None
        self._supervisor = Supervisor(
            addresses,
            name=f"modelyard announcer {name}",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=PUBLISH_TIMEOUT_S,
            is_one_connection=True,
        )

    def announce(self, announcement: Announcement) -> None:
        """Say this from now on."""
        self._news = announcement
        self._changed.set()

    def hurry(self) -> None:
        """Say it now: something has changed that makes it true."""
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
        try:
            said = envelope.News(self._name, news, is_last, self._queue_lost_s())
            await publish_news(session.publishing, said)
        except BlockedError:
            return
        except LOST as error:
            session.lose(str(error))

    async def _on_open(self, session: Session) -> None:
        self._session = session
        self._changed.set()

    def _on_lost(self) -> None:
        self._session = None


async def publish_news(connection: Connection, news: envelope.News) -> None:
    """Tell all gateways."""
    await connection.publish(
        envelope.encode(news),
        exchange=CATALOG,
        routing_key="",
        properties=Properties(
            message_type=envelope.ANNOUNCEMENT, expiration=str(int(FORGET_AFTER_S * 1000))
        ),
        is_mandatory=False,
    )
