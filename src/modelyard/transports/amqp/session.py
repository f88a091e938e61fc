"""Keeps a session with the broker up: connects, notices that it is dead, connects again.

A session is two connections, one to publish and one to consume: an alarm in the broker blocks only
connections that publish. When either is lost both go, and all that depends on them is set up anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError

from modelyard.transports.amqp.topology import declare_exchanges

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_S = 10
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 2.0

LOST = (AMQPError, OSError, TimeoutError, asyncio.InvalidStateError, RuntimeError)
"""What a call into the client library raises when the connection is gone or going."""


class Session:
    """Two open connections and what was declared on them."""

    def __init__(
        self,
        publishing: AbstractChannel,
        consuming: AbstractChannel,
        exchanges: dict[str, AbstractExchange],
    ) -> None:
        self.publishing = publishing
        self.consuming = consuming
        self.exchanges = exchanges
        self.lost = asyncio.Event()


OnOpen = Callable[[Session], Awaitable[None]]


class Supervisor:
    """Runs sessions one after the other.

    Args:
        url: The broker's, ``amqp://`` or ``amqps://``; several, with commas, are tried in turn.
        name: What the broker's administrator sees.
        on_open: Sets up what a new session needs; may raise, which ends the session.
        on_lost: Told when a session has ended.
        is_one_connection: For those who publish too little to mind an alarm.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        on_open: OnOpen,
        on_lost: Callable[[], None],
        is_one_connection: bool = False,
    ) -> None:
        self._urls = [part.strip() for part in url.split(",")]
        self._name = name
        self._on_open = on_open
        self._on_lost = on_lost
        self._roles = ("both",) if is_one_connection else ("publish", "consume")
        self.opened = 0
        self.is_open = False

    async def run(self) -> None:
        """Keep a session open until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            self._urls.append(self._urls.pop(0))
            try:
                async with self._open(self._urls[-1]) as session:
                    try:
                        await self._on_open(session)
                        self.is_open = True
                        self.opened += 1
                        backoff_s = FIRST_BACKOFF_S
                        log.info("broker_connected", extra={"sessions": self.opened})
                        await session.lost.wait()
                    finally:  # before the connections are closed: that may take a while
                        self.is_open = False
                        self._on_lost()
            except LOST as error:
                log.warning("broker_unreachable", extra={"error": str(error) or repr(error)})
            # With jitter, so that many processes do not come back at the same moment.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    @contextlib.asynccontextmanager
    async def _open(self, url: str) -> AsyncIterator[Session]:
        connections: list[AbstractConnection] = []
        try:
            for role in self._roles:
                connection = await aio_pika.connect(
                    url,
                    timeout=CONNECT_TIMEOUT_S,
                    heartbeat=HEARTBEAT_S,
                    client_properties={"connection_name": f"{self._name} ({role})"},
                )
                connections.append(connection)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                publishing = await connections[0].channel(on_return_raises=True)
                consuming = await connections[-1].channel(publisher_confirms=False)
                exchanges = await declare_exchanges(publishing)
            session = Session(publishing, consuming, exchanges)
            for opened in connections:
                opened.close_callbacks.add(lambda *_: session.lost.set())
            for channel in (publishing, consuming):
                channel.close_callbacks.add(lambda *_: session.lost.set())
            # The broker cancels consumers of a queue that was deleted: set all up anew.
            underlying = await consuming.get_underlay_channel()
            underlying.on_consumer_cancel_callbacks.add(lambda _: session.lost.set())
            yield session
        finally:
            for opened in connections:
                with contextlib.suppress(*LOST):
                    async with asyncio.timeout(1):
                        await opened.close()
