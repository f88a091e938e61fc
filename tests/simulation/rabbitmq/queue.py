"""A queue: what waits, who consumes, and what was handed out and not acked."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol


class Stored:
    """A message in a queue. ``header`` and ``body`` are passed on as they came."""

    __slots__ = (
        "body",
        "exchange",
        "expires",
        "header",
        "is_persistent",
        "is_redelivered",
        "routing_key",
        "sequence",
    )

    def __init__(
        self,
        *,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: list[bytes],
        expires: float | None,
        is_persistent: bool,
        sequence: int,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self.body = body
        self.expires = expires
        self.is_persistent = is_persistent
        self.is_redelivered = False
        self.sequence = sequence

    def copy(self) -> Stored:
        """Give the message for another queue."""
        return Stored(
            exchange=self.exchange,
            routing_key=self.routing_key,
            header=self.header,
            body=self.body,
            expires=self.expires,
            is_persistent=self.is_persistent,
            sequence=self.sequence,
        )


class Deliver(Protocol):
    """How a message gets to a consumer."""

    def __call__(self, consumer: Consumer, stored: Stored) -> None:
        """Send it."""
        ...


class Consumer:
    """Somebody who consumes a queue. ``limit``: of messages not acked; 0 for none."""

    __slots__ = ("deliver", "limit", "no_ack", "owner", "queue", "tag", "unacked")

    def __init__(
        self, *, tag: str, owner: object, queue: Queue, deliver: Deliver, limit: int, no_ack: bool
    ) -> None:
        self.tag = tag
        self.owner = owner
        self.queue = queue
        self.deliver = deliver
        self.limit = limit
        self.no_ack = no_ack
        self.unacked = 0

    @property
    def has_room(self) -> bool:
        """Whether it may be given another message."""
        return self.no_ack or not self.limit or self.unacked < self.limit


class Queue:
    """A classic queue.

    Args:
        name: Its own.
        owner: The only connection that may use it, if it is exclusive.
        is_durable: Whether it outlives the broker.
        is_auto_delete: Whether it goes with its last consumer.
        arguments: As declared.
    """

    def __init__(
        self,
        name: str,
        *,
        owner: object | None,
        is_durable: bool,
        is_auto_delete: bool,
        arguments: dict[str, Any],
    ) -> None:
        self.name = name
        self.owner = owner
        self.is_durable = is_durable
        self.is_auto_delete = is_auto_delete
        self.arguments = arguments
        self.max_length: int | None = None
        self.ready: deque[Stored] = deque()
        self.consumers: deque[Consumer] = deque()
        self.unacked = 0
        self.expired = 0

    def expire(self, now: float) -> None:
        """Drop what has expired at the head; what expires behind it waits until it is the head."""
        while self.ready:
            expires = self.ready[0].expires
            if expires is None or expires > now:
                return
            self.ready.popleft()
            self.expired += 1

    def is_full(self, now: float) -> bool:
        """Whether it takes no more."""
        self.expire(now)
        return self.max_length is not None and len(self.ready) >= self.max_length

    def put(self, stored: Stored, now: float) -> None:
        """Take a message."""
        self.ready.append(stored)
        self.hand_out(now)

    def give_back(self, messages: list[Stored], now: float) -> None:
        """Take back what was handed out: it stands again where it stood."""
        self.unacked -= len(messages)
        for stored in messages:
            stored.is_redelivered = True
        merged = sorted([*messages, *self.ready], key=lambda stored: stored.sequence)
        self.ready = deque(merged)
        self.hand_out(now)

    def hand_out(self, now: float) -> None:
        """Deliver to the consumers in turn, as long as one has room."""
        consumers = self.consumers
        while self.ready and consumers:
            for _ in range(len(consumers)):
                consumer = consumers[0]
                consumers.rotate(-1)
                if consumer.has_room:
                    break
            else:
                return
            stored = self.take(now)
            if stored is None:
                return
            if not consumer.no_ack:
                consumer.unacked += 1
                self.unacked += 1
            consumer.deliver(consumer, stored)

    def take(self, now: float) -> Stored | None:
        """Remove and give the first message that has not expired."""
        self.expire(now)
        return self.ready.popleft() if self.ready else None
