"""What tests of brokers need: somebody who ill-treats either kind, clients, and consumers."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Protocol

import pytest
from pamqp import base, commands

from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.confirms import ConnectionLostError
from modelyard.transports.amqp.connection import Connection
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.opening import open_connection
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.session import Broker as Part
from tests.simulation.rabbitmq.broker import InMemoryBroker
from tests.simulation.serve import Served
from tests.support.broker import Broker

PATIENCE_S = 60.0
SOON_S = 0.3
"""Long enough for a message that should not come to come after all."""


class Operator(Protocol):
    """What an operator can do to either broker."""

    url: str

    async def set_alarm(self, has_alarm: bool) -> None: ...
    async def limit(self, pattern: str, max_length: int | None) -> None: ...
    async def restart(self) -> None: ...


class RealOperator:
    """By ``rabbitmqctl``."""

    def __init__(self, broker: Broker) -> None:
        self.url = broker.url
        self._broker = broker

    async def set_alarm(self, has_alarm: bool) -> None:
        await self._control("set_vm_memory_high_watermark", "0.0001" if has_alarm else "0.5")

    async def limit(self, pattern: str, max_length: int | None) -> None:
        if max_length is None:
            await self._control("clear_policy", "limit")
            return
        limits = json.dumps({"max-length": max_length, "overflow": "reject-publish"})
        await self._control("set_policy", "limit", pattern, limits, "--apply-to", "queues")

    async def restart(self) -> None:
        await self._control("stop_app")
        await self._control("start_app")

    async def _control(self, *arguments: str) -> None:
        await asyncio.to_thread(self._broker.control, *arguments)


class InMemoryOperator:
    """By hand."""

    def __init__(self, served: Served) -> None:
        self.url = served.url
        self._broker: InMemoryBroker = served.broker

    async def set_alarm(self, has_alarm: bool) -> None:
        self._broker.set_alarm(has_alarm)

    async def limit(self, pattern: str, max_length: int | None) -> None:
        if max_length is None:
            self._broker.clear_policy("limit")
        else:
            self._broker.set_policy("limit", pattern, max_length=max_length)

    async def restart(self) -> None:
        self._broker.stop()
        self._broker.start()


class NoEvents:
    """What counts events where there may be none."""

    def broker_event(self, event: str) -> None:
        raise AssertionError(event)


class Client:
    """Connections of a test, and names that no other test has."""

    def __init__(self, operator: Operator, stack: AsyncExitStack) -> None:
        self.operator = operator
        self.queue = f"test.{secrets.token_hex(6)}"
        self.exchange = f"{self.queue}.x"
        self.lost: list[str] = []
        self._stack = stack

    def as_part(self, owner: str) -> Part:
        """Give what a part of the product knows of the broker and of itself."""
        addresses = parse_addresses(self.operator.url)
        return Part(addresses, owner, NoEvents(), time.monotonic, time.time, Random())

    async def connect(self, *, confirm_timeout_s: float = PATIENCE_S) -> Connection:
        """Open a connection that publishes with confirms."""
        (address,) = parse_addresses(self.operator.url)
        connection = await open_connection(
            address,
            name="contract",
            confirm_timeout_s=confirm_timeout_s,
            on_lost=self.lost.append,
            clock=time.monotonic,
        )
        self._stack.push_async_callback(connection.close)
        await connection.confirm_publishing()
        return connection

    async def declare(
        self, connection: Connection, *, queue: str | None = None, key: str = "k", **more: bool
    ) -> str:
        """Declare an exchange and a queue, and bind them."""
        name = queue or self.queue
        await connection.call(
            commands.Exchange.Declare(exchange=self.exchange, exchange_type="direct", durable=True)
        )
        facts = {"durable": True, **more}
        await connection.call(
            commands.Queue.Declare(queue=name, arguments={"x-queue-type": "classic"}, **facts)
        )
        await connection.call(
            commands.Queue.Bind(queue=name, exchange=self.exchange, routing_key=key)
        )
        return name

    async def publish(
        self,
        connection: Connection,
        *bodies: bytes,
        key: str = "k",
        expires_ms: int | None = None,
        is_persistent: bool = False,
    ) -> None:
        """Publish, and wait for the confirms."""
        expiration = None if expires_ms is None else str(expires_ms)
        await asyncio.gather(
            *(
                connection.publish(
                    body,
                    exchange=self.exchange,
                    routing_key=key,
                    properties=Properties(expiration=expiration),
                    is_persistent=is_persistent,
                )
                for body in bodies
            )
        )

    async def count(self, connection: Connection, queue: str | None = None) -> tuple[int, int]:
        """Count the messages and the consumers of a queue."""
        answer = await connection.call(
            commands.Queue.Declare(queue=queue or self.queue, passive=True)
        )
        assert isinstance(answer, commands.Queue.DeclareOk)
        return answer.message_count or 0, answer.consumer_count or 0

    async def counted(self, connection: Connection, expected: tuple[int, int]) -> None:
        """Wait until a queue has so many messages and consumers."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.count(connection) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


class Inbox:
    """What a consumer has been given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]

    async def holds(self, number: int) -> None:
        """Wait until it holds so many messages."""
        await until(lambda: len(self.messages) >= number)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def consume(
    connection: Connection, queue: str, *, prefetch: int = 0, no_ack: bool = False
) -> tuple[Inbox, str]:
    await connection.call(commands.Basic.Qos(prefetch_count=prefetch))
    inbox = Inbox()
    return inbox, await connection.consume(queue, inbox, no_ack=no_ack)


async def refused(connection: Connection, method: base.Frame, code: int) -> None:
    """See that the broker refuses, and that this ends the channel."""
    with pytest.raises(ConnectionLostError, match=f"^{code} "):
        await connection.call(method)
