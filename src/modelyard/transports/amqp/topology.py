"""Names in the broker, and how they are declared. All exchanges are our own, durable and direct,
but the catalog's, which fans out.

Requests wait in ``infer.<model>:<version>`` and, with high priority, in ``…:high``. Limits of
length and time are left to policies: arguments that differ from an earlier declaration are refused.
"""

from __future__ import annotations

import secrets
from typing import Literal

from pamqp import commands

from modelyard.core.batch import Priority
from modelyard.core.names import Target
from modelyard.transports.amqp.connection import Connection

REQUESTS = "modelyard.requests"
REPLIES = "modelyard.replies"
CATALOG = "modelyard.catalog"

QueueType = Literal["classic", "quorum"]


def queue_name(target: Target, priority: Priority) -> str:
    """Give the name of a target's queue, which is also its routing key."""
    # Names and versions may hold dots: with one between them, a/1.2 and a.1/2 would share a queue.
    name = f"infer.{target.name}:{target.version}"
    return f"{name}:high" if priority == "high" else name


async def declare_exchanges(connection: Connection) -> None:
    """Declare the exchanges."""
    for name, kind in ((REQUESTS, "direct"), (REPLIES, "direct"), (CATALOG, "fanout")):
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


async def declare_own_queue(connection: Connection, exchange: str, owner: str) -> str:
    """Declare and bind a queue that lives as long as its connection, and give its name.

    The name is a new one for each connection, so that a reconnect meets no queue that the broker
    has not yet let go.
    """
    name = f"{exchange.rpartition('.')[2]}.{owner}.{secrets.token_hex(8)}"
    await connection.call(
        commands.Queue.Declare(
            queue=name,
            exclusive=True,
            auto_delete=True,
            arguments={"x-queue-type": "classic"},
        )
    )
    await connection.call(commands.Queue.Bind(queue=name, exchange=exchange, routing_key=name))
    return name
