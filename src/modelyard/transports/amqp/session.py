"""Keeps a session with the broker up: connects, notices that it is dead, connects again.

A session is two connections, one to publish and one to consume: an alarm in the broker blocks only
connections that publish. When either is lost both go, and all that depends on them is set up anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import cycle
from random import Random
from typing import NamedTuple, Protocol

from modelyard.core.clock import Clock, WallClock
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.confirms import BrokerError
from modelyard.transports.amqp.connection import Connection
from modelyard.transports.amqp.opening import open_connection
from modelyard.transports.amqp.topology import declare_exchanges

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 2.0
STABLE_AFTER_S = 5.0  # a session that ends sooner does not shorten the pause before the next

LOST = (BrokerError, OSError, TimeoutError)
"""What is raised when the broker cannot be reached, refuses, or takes too long."""


class BrokerMetrics(Protocol):
    """Counts what happens between us and the broker."""

    def broker_event(self, event: str) -> None:
        """Count ``resent`` requests, ``redelivered`` bundles, ``orphan`` replies and the like."""
        ...


class Broker(NamedTuple):
    """What every part needs to talk to the broker.

    Attributes:
        addresses: Where it is; several are tried in turn.
        owner: Our own name, for the broker's administrator and for the names of our queues.
        metrics: Told what happens.
        clock: For time-outs and deadlines.
        wall_clock: For deadlines on their way to another machine.
        chance: For jitter, and for names that must be new.
    """

    addresses: Sequence[Address]
    owner: str
    metrics: BrokerMetrics
    clock: Clock
    wall_clock: WallClock
    chance: Random

    def wall_offset(self) -> float:
        """Give what turns a reading of ``clock`` into a Unix time, added to it."""
        return self.wall_clock() - self.clock()

    def new_name(self, prefix: str) -> str:
        """Give a name that nobody else has."""
        return f"{prefix}.{self.owner}.{self.chance.getrandbits(64):016x}"


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
        broker: Where to, and as whom.
        role: What the sessions are for; the broker's administrator sees it.
        on_open: Sets up what a new session needs; may raise, which ends the session.
        on_lost: Called when a session has ended.
        confirm_timeout_s: How long the broker may take to confirm a message.
        is_one_connection: For those who publish too little to mind an alarm.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        role: str,
        on_open: OnOpen,
        on_lost: Callable[[], None],
        confirm_timeout_s: float,
        is_one_connection: bool = False,
    ) -> None:
        self._addresses = cycle(broker.addresses)
        self._broker = broker
        self._name = f"modelyard {role} {broker.owner}"
        self._on_open = on_open
        self._on_lost = on_lost
        self._confirm_timeout_s = confirm_timeout_s
        self._is_one_connection = is_one_connection
        self._opened = 0

    async def run(self) -> None:
        """Keep a session open until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        clock = self._broker.clock
        while True:
            try:
                async with self._open(next(self._addresses)) as session:
                    try:
                        async with asyncio.timeout(CONNECT_TIMEOUT_S):
                            await self._on_open(session)
                        self._opened += 1
                        log.info("broker_connected", extra={"sessions": self._opened})
                        opened = clock()
                        await session.lost.wait()
                        if clock() - opened > STABLE_AFTER_S:
                            backoff_s = FIRST_BACKOFF_S
                    finally:  # before the connections are closed: that may take a while
                        self._on_lost()
            except LOST as error:
                log.warning("broker_unreachable", extra={"error": str(error) or repr(error)})
            # With jitter, so that many processes do not come back at the same moment.
            await asyncio.sleep(backoff_s * self._broker.chance.uniform(0.5, 1.5))
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
        self, session: Session, address: Address, use: str, stack: contextlib.AsyncExitStack
    ) -> Connection:
        connection = await open_connection(
            address,
            name=f"{self._name} ({use})",
            confirm_timeout_s=self._confirm_timeout_s,
            on_lost=session.lose,
            clock=self._broker.clock,
        )
        stack.push_async_callback(connection.close)
        return connection
