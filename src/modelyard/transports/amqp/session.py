"""Keeps a session with the broker up: connects, notices that it is dead, connects again.

A session is two connections, one to publish and one to consume: an alarm in the broker blocks only
connections that publish. When either is lost both go, and all that depends on them is set up anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import cycle

from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.connection import BrokerError, Connection
from modelyard.transports.amqp.topology import declare_exchanges

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 2.0
STABLE_AFTER_S = 5.0  # a session that ends sooner does not shorten the pause before the next

LOST = (BrokerError, OSError, TimeoutError)
"""What is raised when the broker cannot be reached, refuses, or takes too long."""


class Session:
    """Open connections, the exchanges declared. Give it up with ``lose``."""

    def __init__(self) -> None:
        self.publishing: Connection
        self.consuming: Connection
        self.lost = asyncio.Event()

    def lose(self, why: str) -> None:
        """Say that it is of no more use: the supervisor opens another one."""
        if not self.lost.is_set():
            log.warning("broker_lost", extra={"why": why})
            self.lost.set()


OnOpen = Callable[[Session], Awaitable[None]]


class Supervisor:
    """Runs sessions one after the other.

    Args:
        addresses: The broker's; several are tried in turn.
        name: What the broker's administrator sees.
        on_open: Sets up what a new session needs; may raise, which ends the session.
        on_lost: Told when a session has ended.
        confirm_timeout_s: How long the broker may take to confirm a message.
        is_one_connection: For those who publish too little to mind an alarm.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        name: str,
        on_open: OnOpen,
        on_lost: Callable[[], None],
        confirm_timeout_s: float,
        is_one_connection: bool = False,
    ) -> None:
        self._addresses = cycle(addresses)
        self._name = name
        self._on_open = on_open
        self._on_lost = on_lost
        self._confirm_timeout_s = confirm_timeout_s
        self._is_one_connection = is_one_connection
        self._opened = 0

    async def run(self) -> None:
        """Keep a session open until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                async with self._open(next(self._addresses)) as session:
                    try:
                        async with asyncio.timeout(CONNECT_TIMEOUT_S):
                            await self._on_open(session)
                        self._opened += 1
                        log.info("broker_connected", extra={"sessions": self._opened})
                        opened = time.monotonic()
                        await session.lost.wait()
                        if time.monotonic() - opened > STABLE_AFTER_S:
                            backoff_s = FIRST_BACKOFF_S
                    finally:  # before the connections are closed: that may take a while
                        self._on_lost()
            except LOST as error:
                log.warning("broker_unreachable", extra={"error": str(error) or repr(error)})
            # With jitter, so that many processes do not come back at the same moment.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    @contextlib.asynccontextmanager
    async def _open(self, address: Address) -> AsyncIterator[Session]:
        session = Session()
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if self._is_one_connection:
                    session.consuming = await self._connect(session, address, "both", stack)
                    session.publishing = session.consuming
                else:
                    session.consuming = await self._connect(session, address, "consume", stack)
                    session.publishing = await self._connect(session, address, "publish", stack)
                await session.publishing.confirm_publishing()
                await declare_exchanges(session.consuming)
            yield session

    async def _connect(
        self, session: Session, address: Address, role: str, stack: contextlib.AsyncExitStack
    ) -> Connection:
        connection = await Connection.open(
            address,
            name=f"{self._name} ({role})",
            confirm_timeout_s=self._confirm_timeout_s,
            on_lost=session.lose,
        )
        stack.push_async_callback(connection.close)
        return connection
