"""How gateways learn of workers: each announces itself every second, and at every change.

A worker that has been silent for ``FORGET_AFTER_S`` is gone. A gateway that starts later knows all
after a second.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import msgspec
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from modelyard.core.messages import Announcement
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import CATALOG, declare_own_queue

EVERY_S = 1.0
FORGET_AFTER_S = 6.0
PUBLISH_TIMEOUT_S = 1.0

Announce = Callable[[Announcement], None]


class Announcer:
    """A worker's voice. It says that it is ready only while its queues are consumed too."""

    def __init__(self, url: str, *, name: str, is_consuming: Callable[[], bool]) -> None:
        self._name = name
        self._is_consuming = is_consuming
        self._news: Announcement | None = None
        self._changed = asyncio.Event()
        self._session: Session | None = None
        self._supervisor = Supervisor(
            url, name=f"modelyard announcer {name}", on_open=self._on_open, on_lost=self._on_lost
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
        await self._speak(is_last=True)

    async def _speak_on_and_on(self) -> None:
        while True:
            self._changed.clear()
            await self._speak(is_last=False)
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _speak(self, *, is_last: bool) -> None:
        session, news = self._session, self._news
        if session is None or news is None or not self._is_consuming():
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


class Listener:
    """A gateway's ear: adds up what the workers of each target say, and tells the catalog."""

    def __init__(self, url: str, *, name: str, announce: Announce) -> None:
        self._name = name
        self._announce = announce
        self._heard: dict[Target, dict[str, tuple[float, Announcement]]] = {}
        self.is_listening = asyncio.Event()
        self._supervisor = Supervisor(
            url, name=f"modelyard listener {name}", on_open=self._on_open, on_lost=lambda: None
        )

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._forget_on_and_on())

    async def _on_open(self, session: Session) -> None:
        queue = await declare_own_queue(session.consuming, CATALOG, self._name)
        await queue.consume(self._on_news, no_ack=True)
        now = time.monotonic()
        for workers in self._heard.values():  # they could not be heard while the broker was away
            for worker, (_, announcement) in workers.items():
                workers[worker] = (now, announcement)
        self.is_listening.set()

    async def _on_news(self, message: AbstractIncomingMessage) -> None:
        if message.type != envelope.ANNOUNCEMENT:
            return  # another version's: it announces itself in ours as well, or is not for us
        try:
            news = envelope.decode_news(message.body)
        except msgspec.MsgspecError:
            return
        workers = self._heard.setdefault(news.announcement.target, {})
        if news.is_last:
            workers.pop(news.worker, None)
        else:
            workers[news.worker] = (time.monotonic(), news.announcement)
        self._tell(news.announcement)

    async def _forget_on_and_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._supervisor.is_open:
                self._forget(time.monotonic() - FORGET_AFTER_S)

    def _forget(self, since: float) -> None:
        for workers in self._heard.values():
            for worker, (heard, announcement) in list(workers.items()):
                if heard < since:
                    del workers[worker]
                    self._tell(announcement)

    def _tell(self, last: Announcement) -> None:
        """Announce the sum of a target's workers; ``last`` stands for it if there are none."""
        said = [announcement for _, announcement in self._heard[last.target].values()]
        if not said:
            self._announce(
                msgspec.structs.replace(
                    last, state="stopped", reason="no worker is up", runners=0, runners_ready=0
                )
            )
            return
        order = ("ready", "recovering", "starting", "failed", "stopped")
        best = min(said, key=lambda announcement: order.index(announcement.state))
        self._announce(
            msgspec.structs.replace(
                best,
                runners=sum(announcement.runners for announcement in said),
                runners_ready=sum(announcement.runners_ready for announcement in said),
            )
        )
