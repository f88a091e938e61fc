"""Keeps a session with the broker open: connects, detects a dead session, reconnects.

A session is two connections, one to publish and one to consume: an alarm in the broker blocks only
connections that publish. If either is lost both are closed, and the set-up starts over.
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
JITTER = 0.5  # of the backoff, to either side
ALL_RETURN_WITHIN_S = LONGEST_BACKOFF_S * (1 + JITTER)  # once a broker is back
STABLE_AFTER_S = 5.0  # only a session that lasted this long resets the backoff
QUIET_TRIES = 256  # of so many tries in vain, one at least is logged

LOST = (BrokerError, OSError, TimeoutError)
"""Raised if the broker cannot be reached, refuses, or times out."""


class BrokerMetrics(Protocol):
    """Counts events of the broker connection."""

    def broker_event(self, event: str) -> None:
        """Count ``resent`` requests, ``redelivered`` bundles, ``orphan`` replies and the like."""
        ...


class Broker(NamedTuple):
    """What every part needs to talk to the broker.

    Attributes:
        addresses: Addresses of the broker, tried in turn.
        owner: Our own unique name, for connection and queue names.
        metrics: Receives counts.
        clock: For timeouts and deadlines.
        wall_clock: For deadlines that are sent to another machine.
        chance: For jitter, and for unique names.
        release: Of Modelyard, which workers announce.
    """

    addresses: Sequence[Address]
    owner: str
    metrics: BrokerMetrics
    clock: Clock
    wall_clock: WallClock
    chance: Random
    release: str = ""

    def wall_offset(self) -> float:
        """Return the offset from a reading of ``clock`` to Unix time."""
        return self.wall_clock() - self.clock()

    def new_name(self, prefix: str) -> str:
        """Return a unique name."""
        return f"{prefix}.{self.owner}.{self.chance.getrandbits(64):016x}"


class Session:
    """Open connections, with the exchanges declared. ``lose`` ends it.

    ``user``: who we are at the broker.
    """

    def __init__(self, user: str) -> None:
        self.user = user
        self.publishing: Connection
        self.consuming: Connection
        self.lost = asyncio.Event()

    def lose(self, why: str) -> None:
        """End the session; the supervisor opens another one."""
        if not self.lost.is_set():
            log.warning("broker_lost", extra={"why": why})
            self.lost.set()


OnOpen = Callable[[Session], Awaitable[None]]


class Supervisor:
    """Runs sessions, one after the other.

    Args:
        broker: The broker, and our identity there.
        role: Purpose of the sessions, part of the connection names.
        on_open: Sets up a new session; if it raises, the session ends.
        on_lost: Called when a session has ended.
        confirm_timeout_s: How long the broker may take to confirm a message.
        is_one_connection: Publish and consume on one connection, where an alarm does not matter.
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
        self._role = role
        self._name = f"modelyard {role} {broker.owner}"
        self._on_open = on_open
        self._on_lost = on_lost
        self._confirm_timeout_s = confirm_timeout_s
        self._is_one_connection = is_one_connection
        self._opened = 0
        self._tries = 0  # in vain, since the last session
        self._problems: dict[str, str] = {}  # the last at each address

    @property
    def tries(self) -> int:
        """How often opening a session has failed since the last one; in ``on_open``, before it."""
        return self._tries

    async def run(self) -> None:
        """Keep a session open until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        clock = self._broker.clock
        while True:
            address = next(self._addresses)
            try:
                async with self._open(address) as session:
                    try:
                        async with asyncio.timeout(CONNECT_TIMEOUT_S):
                            await self._on_open(session)
                        self._opened += 1
                        self._tries, self._problems = 0, {}
                        log.info("broker_connected", extra={"sessions": self._opened})
                        opened = clock()
                        await session.lost.wait()
                        if clock() - opened > STABLE_AFTER_S:
                            backoff_s = FIRST_BACKOFF_S
                    finally:  # before closing the connections, which may take a while
                        self._on_lost()
            except LOST as error:
                self._complain(address, error)
            # With jitter, so that many processes do not reconnect at the same moment.
            await asyncio.sleep(backoff_s * self._broker.chance.uniform(1 - JITTER, 1 + JITTER))
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    def _complain(self, address: Address, error: Exception) -> None:
        """Log a try in vain: the first, each with another error, and of the rest ever fewer."""
        self._tries += 1
        tries, where, problem = self._tries, str(address), str(error) or repr(error)
        is_due = tries & (tries - 1) == 0 or tries % QUIET_TRIES == 0  # the first: powers of two
        is_news = self._problems.get(where) != problem
        self._problems[where] = problem
        level = logging.WARNING if is_due or is_news else logging.DEBUG
        fields: dict[str, object] = {
            "address": where,
            "error": problem,
            "role": self._role,
            "tries": tries,
        }
        if tries == 1 and isinstance(error, OSError):
            fields["hint"] = "is a RabbitMQ running there? the setting amqp_url names another"
        log.log(level, "broker_unreachable", extra=fields)

    @contextlib.asynccontextmanager
    async def _open(self, address: Address) -> AsyncIterator[Session]:
        session = Session(address.user)
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
