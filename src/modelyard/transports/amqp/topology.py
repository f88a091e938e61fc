"""Names in the broker, and how they are declared. All exchanges are our own, durable and direct,
but the catalog's, which fans out.

Requests wait in ``infer.<model>.<version>`` and, with high priority, in ``….high``. Limits of
length and time are left to policies: arguments that differ from an earlier declaration are refused.
"""

from __future__ import annotations

import secrets
from typing import Literal

from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue

from modelyard.core.batch import Priority
from modelyard.core.names import Target

REQUESTS = "modelyard.requests"
REPLIES = "modelyard.replies"
CATALOG = "modelyard.catalog"

QueueType = Literal["classic", "quorum"]


def queue_name(target: Target, priority: Priority) -> str:
    """Give the name of a target's queue, which is also its routing key."""
    name = f"infer.{target.name}.{target.version}"
    return f"{name}.high" if priority == "high" else name


async def declare_exchanges(channel: AbstractChannel) -> dict[str, AbstractExchange]:
    """Declare the exchanges; gives them by name."""
    return {
        name: await channel.declare_exchange(name, kind, durable=True)
        for name, kind in ((REQUESTS, "direct"), (REPLIES, "direct"), (CATALOG, "fanout"))
    }


async def declare_request_queue(
    channel: AbstractChannel, target: Target, priority: Priority, queue_type: QueueType
) -> AbstractQueue:
    """Declare and bind the queue of a target; it stays when its workers go."""
    name = queue_name(target, priority)
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": queue_type})
    await queue.bind(REQUESTS, name)
    return queue


async def count_waiting(channel: AbstractChannel, target: Target, priority: Priority) -> int:
    """Count the messages that wait in a target's queue and are with no worker yet."""
    queue = await channel.declare_queue(queue_name(target, priority), passive=True)
    return queue.declaration_result.message_count or 0


async def declare_own_queue(channel: AbstractChannel, exchange: str, owner: str) -> AbstractQueue:
    """Declare and bind a queue that lives as long as its connection.

    Its name is a new one for each connection, so that a reconnect meets no queue that the broker
    has not yet let go.
    """
    name = f"{exchange.rpartition('.')[2]}.{owner}.{secrets.token_hex(8)}"
    queue = await channel.declare_queue(
        name, exclusive=True, auto_delete=True, arguments={"x-queue-type": "classic"}
    )
    await queue.bind(exchange, name)
    return queue
