"""Names in the broker, and how they are declared. All exchanges are our own and durable.

Requests wait in ``infer.<model>:<version>`` and, with high priority, in ``…:high``. Limits of
length and time are left to policies: arguments that differ from an earlier declaration are refused.
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
"""Workers' cards: to all gateways, and with the key ``KEPT`` also to the queue that keeps them."""

HELLO = "modelyard.hello"
"""What gateways ask all workers."""

SENT, KEPT = "sent", "kept"
_EXCHANGES = {
    REQUESTS: "direct",
    REPLIES: "direct",
    CATALOG: "fanout",
    CARDS: "direct",
    HELLO: "fanout",
}

QueueType = Literal["classic", "quorum"]


def queue_name(target: Target, priority: Priority) -> str:
    """Give the name of a target's queue, which is also its routing key."""
    # Names and versions may hold dots: with one between them, a/1.2 and a.1/2 would share a queue.
    name = f"infer.{target.name}:{target.version}"
    return f"{name}:high" if priority == "high" else name


async def declare_exchanges(connection: Connection) -> None:
    """Declare the exchanges."""
    for name, kind in _EXCHANGES.items():
        await connection.call(
            commands.Exchange.Declare(exchange=name, exchange_type=kind, durable=True)
        )


async def declare_request_queue(
    connection: Connection, target: Target, priority: Priority, queue_type: QueueType
) -> str:
    """Declare and bind the queue of a target, and give its name; it stays when its workers go."""
    name = queue_name(target, priority)
    await connection.call(
        commands.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": queue_type})
    )
    await connection.call(commands.Queue.Bind(queue=name, exchange=REQUESTS, routing_key=name))
    return name


async def count_waiting(
    connection: Connection, target: Target, priority: Priority
) -> tuple[int, int]:
    """Count the messages that wait in a target's queue and are with no worker yet, and its
    consumers.
    """
    answer = await connection.call(
        commands.Queue.Declare(queue=queue_name(target, priority), passive=True)
    )
    assert isinstance(answer, commands.Queue.DeclareOk)
    return answer.message_count or 0, answer.consumer_count or 0


async def declare_own_queue(
    connection: Connection, name: str, bindings: Iterable[tuple[str, str]]
) -> str:
    """Declare a queue that lives as long as its connection, bind it, and give its name.

    The name must be a new one for each connection, so that a reconnect meets no queue that the
    broker has not yet let go. ``bindings``: exchanges and routing keys.
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
    """Declare and bind the queue that keeps the cards of targets that may sleep; gives its name.

    Its type is in its name: a process that is set up for the other one has a queue beside it.
    """
    name = f"{CARDS}.{queue_type}"
    await connection.call(
        commands.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": queue_type})
    )
    await connection.call(commands.Queue.Bind(queue=name, exchange=CARDS, routing_key=KEPT))
    return name
