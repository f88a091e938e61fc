"""The broker as a whole: exchanges, routing, and what an operator or an accident does to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from tests.simulation.rabbitmq.peer import Peer
from tests.simulation.rabbitmq.queue import Consumer, Queue, Stored


class Exchange:
    """An exchange: ``direct`` or ``fanout``."""

    def __init__(self, kind: str, *, is_durable: bool) -> None:
        self.kind = kind
        self.is_durable = is_durable
        self.bindings: dict[str, list[Queue]] = {}

    def route(self, key: str) -> list[Queue]:
        """Give the queues that a message goes to."""
        if self.kind == "fanout":
            found = [queue for queues in self.bindings.values() for queue in queues]
            return list(dict.fromkeys(found))
        return self.bindings.get(key, [])

    def unbind(self, queue: Queue) -> None:
        """Send nothing more to ``queue``."""
        for key, queues in list(self.bindings.items()):
            self.bindings[key] = [other for other in queues if other is not queue]


class Policy(NamedTuple):
    """A limit of length for queues; what is too much is refused."""

    pattern: str
    max_length: int


class InMemoryBroker:
    """A broker.

    Args:
        clock: For the expiry of messages.
        chance: For how long a confirm takes.
        confirm_delay_s: The longest that a confirm takes by itself; 0 confirms at once.

    Attributes:
        is_listening: Whether it takes connections.
        has_alarm: Whether it is short of memory.
        on_publish: Told of each message that is routed, for checks.
    """

    def __init__(
        self, *, clock: Callable[[], float], chance: Random, confirm_delay_s: float = 0.0
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.confirm_delay_s = confirm_delay_s
        self.is_listening = True
        self.has_alarm = False
        self.exchanges: dict[str, Exchange] = {"": Exchange("default", is_durable=True)}
        self.queues: dict[str, Queue] = {}
        self.peers: list[Peer] = []
        self.policies: dict[str, Policy] = {}
        self.on_publish: Callable[[Queue, Stored], None] | None = None
        self._sequence = 0

    def accept(self) -> asyncio.Protocol:
        """Give the protocol of a new connection."""
        return Peer(self)

    # What clients do.

    def publish(
        self, exchange: str, key: str, *, header: bytes, body: list[bytes], **facts: Any
    ) -> tuple[bool, bool]:
        """Route a message; tells whether any queue is meant, and whether all of those took it."""
        now = self.clock()
        if exchange:
            queues = self.exchanges[exchange].route(key)
        else:
            queues = [self.queues[key]] if key in self.queues else []
        if not queues:
            return False, True
        if any(queue.is_full(now) for queue in queues):
            return True, False
        self._sequence += 1
        stored = Stored(
            exchange=exchange,
            routing_key=key,
            header=header,
            body=body,
            sequence=self._sequence,
            **facts,
        )
        for number, queue in enumerate(list(queues)):
            one = stored.copy() if number else stored
            if self.on_publish is not None:
                self.on_publish(queue, one)
            queue.put(one, now)
        return True, True

    def declare_exchange(self, name: str, kind: str, *, is_durable: bool) -> None:
        """Add an exchange."""
        self.exchanges[name] = Exchange(kind, is_durable=is_durable)

    def declare(self, queue: Queue) -> None:
        """Add a queue."""
        self.queues[queue.name] = queue
        self._apply_policies()

    def delete(self, queue: Queue) -> int:
        """Delete a queue; its consumers are told. Gives how many messages it held."""
        if self.queues.get(queue.name) is not queue:
            return 0
        del self.queues[queue.name]
        for exchange in self.exchanges.values():
            exchange.unbind(queue)
        consumers = list(queue.consumers)
        queue.consumers.clear()
        for consumer in consumers:
            assert isinstance(consumer.owner, Peer)
            consumer.owner.cancelled(consumer)
        return len(queue.ready)

    def leave(self, consumer: Consumer) -> None:
        """Take a consumer from its queue, which may go with it."""
        queue = consumer.queue
        if consumer in queue.consumers:
            queue.consumers.remove(consumer)
            if queue.is_auto_delete and not queue.consumers:
                self.delete(queue)

    def left(self, peer: Peer) -> None:
        """Forget a connection: what it had goes back, and what was its alone goes."""
        if peer in self.peers:
            self.peers.remove(peer)
        for queue in [queue for queue in self.queues.values() if queue.owner is peer]:
            self.delete(queue)

    # What operators and accidents do.

    def set_alarm(self, has_alarm: bool) -> None:
        """Begin or end a shortage of memory."""
        self.has_alarm = has_alarm
        if not has_alarm:
            for peer in list(self.peers):
                peer.unblock()

    def set_policy(self, name: str, pattern: str, *, max_length: int) -> None:
        """Limit the length of queues; what is too much is refused."""
        self.policies[name] = Policy(pattern, max_length)
        self._apply_policies()

    def clear_policy(self, name: str) -> None:
        """Limit them no more."""
        del self.policies[name]
        self._apply_policies()

    def _apply_policies(self) -> None:
        for queue in self.queues.values():
            limits = [
                p.max_length for p in self.policies.values() if re.match(p.pattern, queue.name)
            ]
            queue.max_length = min(limits, default=None)

    def delete_queue(self, name: str) -> None:
        """Delete a queue by its name."""
        if name in self.queues:
            self.delete(self.queues[name])

    def purge_expired(self) -> None:
        """Drop what has expired, as a broker does by and by."""
        now = self.clock()
        for queue in self.queues.values():
            queue.expire(now)

    def stop(self, *, is_polite: bool = True) -> None:
        """Stop, in good order or by a crash; what is durable is kept."""
        self.is_listening = False
        self.has_alarm = False
        for queue in self.queues.values():
            queue.consumers.clear()
        for peer in list(self.peers):
            peer.shut(is_polite=is_polite)
        self.peers.clear()
        for name, queue in list(self.queues.items()):
            if not queue.is_durable or queue.owner is not None:
                del self.queues[name]
                for exchange in self.exchanges.values():
                    exchange.unbind(queue)
                continue
            queue.ready = type(queue.ready)(one for one in queue.ready if one.is_persistent)
        for name, exchange in list(self.exchanges.items()):
            if not exchange.is_durable:
                del self.exchanges[name]

    def start(self) -> None:
        """Take connections again."""
        self.is_listening = True
