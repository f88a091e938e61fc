"""Tries at a broker what a gateway or a worker does there, for ``modelyard doctor``.

It makes what each of them makes at its start, the exchanges, and nothing that outlives its
connections. A refusal closes a connection, so each step has one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

import msgspec

from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.announcer import publish_hello
from modelyard.transports.amqp.confirms import BlockedError, BrokerError, ReturnedError
from modelyard.transports.amqp.connection import Connection
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.opening import open_connection
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.session import Broker
from modelyard.transports.amqp.topology import (
    CARDS,
    CATALOG,
    HELLO,
    NOTICES,
    REPLIES,
    REQUESTS,
    SENT,
    declare_exchanges,
    declare_own_queue,
)

PATIENCE_S = 4.0  # of each step
HEAR_S = 1.0  # workers spread their answers to a hello over half of it
NOBODY = "modelyard.doctor"
"""A routing key to which nothing is bound."""

Role = Literal["gateway", "worker"]
Step = Callable[[Connection], Awaitable[None]]


class Heard(NamedTuple):
    """What a worker has said, and how far its clock is ahead of ours, in seconds."""

    status: envelope.Status
    ahead_s: float | None


class Refused(NamedTuple):
    """What cannot be done, and what the broker says of it."""

    step: str
    why: str


class Seen(NamedTuple):
    """What a broker lets us do.

    Attributes:
        product: Its name and version.
        refused: What it does not.
        is_blocked: Whether it takes no messages: it is short of memory or disk.
        heard: Workers that have answered a hello, by their names.
    """

    product: str
    refused: list[Refused]
    is_blocked: bool
    heard: dict[str, Heard]


class Trial:
    """Tries one address.

    Args:
        broker: Who we are there.
        address: Where it is.
        role: Whose work is tried.
        largest_bytes: The largest message that has to go through; None to try none.
    """

    def __init__(
        self, broker: Broker, address: Address, *, role: Role, largest_bytes: int | None
    ) -> None:
        self._broker = broker
        self._address = address
        self._role: Role = role
        self._largest_bytes = largest_bytes
        self._product = ""
        self._heard: dict[str, Heard] = {}

    async def run(self) -> Seen:
        """Try everything.

        Raises:
            OSError: The broker cannot be reached; a TimeoutError is one.
            BrokerError: It refuses us.
        """
        await self._step(self._look)
        refused: list[Refused] = []
        is_blocked = False
        for name, step in self._steps().items():
            try:
                await self._step(step)
            except BlockedError:
                is_blocked = True
            except (BrokerError, OSError) as error:
                refused.append(Refused(name, str(error) or "no answer in time"))
        return Seen(self._product, refused, is_blocked, self._heard)

    def _steps(self) -> dict[str, Step]:
        steps: dict[str, Step] = {"declare its exchanges": declare_exchanges}
        if self._role == "gateway":
            steps |= {
                "hear workers": self._hear,
                "get replies": self._wait_for_replies,
                "send requests": self._publish(REQUESTS),
                "tell workers of callers who left": self._publish(NOTICES),
            }
        else:
            steps |= {
                "hear gateways": self._own_queue("hello", HELLO),
                "hear of callers who left": self._own_queue("notices", NOTICES),
                "send replies": self._publish(REPLIES),
                "announce its model": self._publish(CARDS),
            }
        if self._largest_bytes is not None:
            exchange = REQUESTS if self._role == "gateway" else REPLIES
            size = f"send a message of {self._largest_bytes / 1e6:.0f} MB"
            steps[size] = self._publish(exchange, body=bytes(self._largest_bytes))
        return steps

    async def _step(self, step: Step) -> None:
        async with asyncio.timeout(PATIENCE_S):
            connection = await open_connection(
                self._address,
                name=f"modelyard doctor {self._broker.owner}",
                confirm_timeout_s=PATIENCE_S / 2,
                on_lost=lambda _: None,
                clock=self._broker.clock,
            )
            try:
                await step(connection)
            finally:
                with contextlib.suppress(OSError):
                    await connection.close()

    async def _look(self, connection: Connection) -> None:
        said = [connection.server.get(name, "") for name in ("product", "version")]
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in said]
        self._product = " ".join(filter(None, texts)) or "a broker"

    async def _hear(self, connection: Connection) -> None:
        """Greet the workers, as a gateway that has just begun, and listen for a moment."""
        name = self._broker.new_name("catalog")
        queue = await declare_own_queue(connection, name, [(CATALOG, ""), (CARDS, SENT)])
        await connection.consume(queue, self._on_message, no_ack=True)
        await connection.confirm_publishing()
        await publish_hello(connection, envelope.Hello(gateway=self._broker.owner))
        await asyncio.sleep(HEAR_S)

    def _on_message(self, message: Message) -> None:
        if message.properties.message_type != envelope.STATUS:
            return
        with contextlib.suppress(msgspec.MsgspecError):
            status = envelope.decode_status(message.body)
            ahead_s = status.at - self._broker.wall_clock() if status.at else None
            self._heard[status.worker] = Heard(status, ahead_s)

    async def _wait_for_replies(self, connection: Connection) -> None:
        name = self._broker.new_name("replies")
        queue = await declare_own_queue(connection, name, [(REPLIES, name)])
        await connection.consume(queue, lambda _: None, no_ack=True)

    def _own_queue(self, prefix: str, exchange: str) -> Step:
        async def step(connection: Connection) -> None:
            name = self._broker.new_name(prefix)
            queue = await declare_own_queue(connection, name, [(exchange, NOBODY)])
            await connection.consume(queue, lambda _: None, no_ack=True)

        return step

    def _publish(self, exchange: str, *, body: bytes = b"") -> Step:
        """Return a step that sends nobody a message: that it comes back says that it went out."""

        async def step(connection: Connection) -> None:
            await connection.confirm_publishing()
            with contextlib.suppress(ReturnedError):
                await connection.publish(
                    body, exchange=exchange, routing_key=NOBODY, properties=Properties()
                )

        return step
