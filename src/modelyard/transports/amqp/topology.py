"""Names and declarations of exchanges and queues. All exchanges are our own and durable.

Requests wait in ``infer.<model>:<version>``, or with another priority in ``…:high`` or ``…:low``.
Length and time limits are left to policies, because RabbitMQ refuses arguments that differ from an
earlier declaration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pamqp import commands

from modelyard.core.batch import Priority
from modelyard.core.names import Target
from modelyard.transports.amqp.connection import Connection

REQUESTS = "modelyard.requests"
REPLIES = "modelyard.replies"
CATALOG = "modelyard.catalog"
"""Workers' statuses, to all gateways."""

CARDS = "modelyard.cards"
"""Workers' cards, to all gateways; with the key ``KEPT`` also to the queue that keeps them. With
``ROUTES``, what gateways tell each other: users' rights are to exchanges, and these suffice.
"""

HELLO = "modelyard.hello"
"""Gateways' hellos, to all workers."""

NOTICES = "modelyard.notices"
"""Gateways' notices, to the workers of a target, or to one of them."""

SENT, KEPT, ROUTES = "sent", "kept", "routes"
_EXCHANGES = {
    REQUESTS: "direct",
    REPLIES: "direct",
    CATALOG: "fanout",
    CARDS: "direct",
    HELLO: "fanout",
    NOTICES: "direct",
}

QueueType = Literal["classic", "quorum"]


def queue_name(target: Target, priority: Priority) -> str:
    """Return the name of a target's queue, which is also its routing key."""
    # Names and versions may contain dots: joined by a dot, a/1.2 and a.1/2 would share a queue.
    name = f"infer.{target.name}:{target.version}"
    return name if priority == "normal" else f"{name}:{priority}"


async def declare_exchanges(connection: Connection) -> None:
    """Declare the exchanges."""
    for name, kind in _EXCHANGES.items():
        await connection.call(
            commands.Exchange.Declare(exchange=name, exchange_type=kind, durable=True)
        )


async def declare_request_queue(
    connection: Connection, target: Target, priority: Priority, queue_type: QueueType
) -> str:
    """Declare and bind a target's queue, and return its name. It outlives the workers."""
    name = queue_name(target, priority)
    await connection.call(
        commands.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": queue_type})
    )
    await connection.call(commands.Queue.Bind(queue=name, exchange=REQUESTS, routing_key=name))
    return name


async def count_waiting(
    connection: Connection, target: Target, priority: Priority
) -> tuple[int, int]:
    """Count the messages of a target's queue that are not delivered yet, and its consumers."""
    answer = await connection.call(
        commands.Queue.Declare(queue=queue_name(target, priority), passive=True)
    )
    assert isinstance(answer, commands.Queue.DeclareOk)
    return answer.message_count or 0, answer.consumer_count or 0


async def declare_own_queue(
    connection: Connection, name: str, bindings: Iterable[tuple[str, str]]
) -> str:
    """Declare a queue that lives as long as its connection, bind it, and return its name.

    Each connection must use a new name: after a reconnect the broker may still hold the old queue.
    ``bindings``: exchanges and routing keys.
    """
    await connection.call(
        commands.Queue.Declare(
            queue=name,
            exclusive=True,
            auto_delete=True,
            arguments={"x-queue-type": "classic"},
        )
    )
    for exchange, key in bindings:
        await connection.call(commands.Queue.Bind(queue=name, exchange=exchange, routing_key=key))
    return name


async def declare_kept_cards(connection: Connection, queue_type: QueueType) -> str:
    """Declare and bind the queue that keeps the cards of all targets; returns its name.

    The queue type is part of the name, so processes with different types use different queues.
    """
    name = f"{CARDS}.{queue_type}"
    await connection.call(
        commands.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": queue_type})
    )
    await connection.call(commands.Queue.Bind(queue=name, exchange=CARDS, routing_key=KEPT))
    return name
