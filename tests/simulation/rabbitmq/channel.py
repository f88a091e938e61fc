"""A channel: what a client declares, consumes and settles on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pamqp import base, commands

from tests.simulation.rabbitmq.publishing import Publishing
from tests.simulation.rabbitmq.queue import Consumer, Queue, Stored
from tests.simulation.rabbitmq.refusal import Refused

if TYPE_CHECKING:
    from tests.simulation.rabbitmq.broker import InMemoryBroker


class Unacked:
    """A message that was delivered and not acked."""

    __slots__ = ("consumer", "queue", "stored")

    def __init__(self, queue: Queue, stored: Stored, consumer: Consumer | None) -> None:
        self.queue = queue
        self.stored = stored
        self.consumer = consumer


class Channel:
    """One connection's only channel.

    Args:
        broker: Whose.
        peer: The connection.
        say: Sends a method.
        send: Sends a method with its content.
    """

    def __init__(
        self,
        broker: InMemoryBroker,
        peer: object,
        *,
        say: Callable[[base.Frame], None],
        send: Callable[[base.Frame, bytes, list[bytes]], None],
    ) -> None:
        self.publishing = Publishing(broker, say=say, send=send)
        self._broker = broker
        self._peer = peer
        self._say = say
        self._send = send
        self._prefetch = 0
        self._consumers: dict[str, Consumer] = {}
        self._unacked: dict[int, Unacked] = {}
        self._tag = 0

    def on_method(self, method: base.Frame) -> None:
        """Do what a client asks for."""
        if isinstance(method, commands.Basic.Publish):
            self.publishing.on_publish(method)
            return
        if isinstance(method, commands.Confirm.Select):
            self.publishing.on_select(method)
            return
        handler = _HANDLERS.get(method.name)
        if handler is None:
            raise Refused(540, f"NOT_IMPLEMENTED - {method.name}", is_connection=True)
        handler(self, method)

    def forget(self, consumer: Consumer) -> None:
        """Note that a consumer's queue is gone."""
        self._consumers.pop(consumer.tag, None)

    def give_back(self) -> None:
        """Give back what is not acked."""
        unacked, self._unacked = list(self._unacked.values()), {}
        self._release(unacked, is_back=True)

    def close(self) -> None:
        """Give back what is not acked, and consume no more."""
        self.publishing.close()
        consumers, self._consumers = list(self._consumers.values()), {}
        for consumer in consumers:
            if consumer in consumer.queue.consumers:
                consumer.queue.consumers.remove(consumer)
        self.give_back()
        for consumer in consumers:
            if consumer.queue.is_auto_delete and not consumer.queue.consumers:
                self._broker.delete(consumer.queue)

    # Topology.

    def _on_exchange_declare(self, method: commands.Exchange.Declare) -> None:
        name, known = method.exchange, self._broker.exchanges.get(method.exchange)
        if known is None and method.passive:
            raise Refused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        if known is None:
            self._broker.declare_exchange(name, method.exchange_type, is_durable=method.durable)
        elif not method.passive and (known.kind, known.is_durable) != (
            method.exchange_type,
            method.durable,
        ):
            raise Refused(406, f"PRECONDITION_FAILED - inequivalent arg for exchange '{name}'")
        self._say(commands.Exchange.DeclareOk())

    def _on_queue_declare(self, method: commands.Queue.Declare) -> None:
        queue = self._broker.queues.get(method.queue)
        if queue is None:
            if method.passive:
                raise Refused(404, f"NOT_FOUND - no queue '{method.queue}' in vhost '/'")
            queue = Queue(
                method.queue,
                owner=self._peer if method.exclusive else None,
                is_durable=method.durable,
                is_auto_delete=method.auto_delete,
                arguments=dict(method.arguments or {}),
            )
            self._broker.declare(queue)
        else:
            self._check_owner(queue)
            is_same = (queue.is_durable, queue.is_auto_delete, queue.arguments) == (
                method.durable,
                method.auto_delete,
                dict(method.arguments or {}),
            )
            if not method.passive and not is_same:
                raise Refused(
                    406, f"PRECONDITION_FAILED - inequivalent arg for queue '{queue.name}'"
                )
        queue.expire(self._broker.clock())
        self._say(
            commands.Queue.DeclareOk(
                queue=queue.name,
                message_count=len(queue.ready),
                consumer_count=len(queue.consumers),
            )
        )

    def _check_owner(self, queue: Queue) -> None:
        if queue.owner is not None and queue.owner is not self._peer:
            raise Refused(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to {queue.name}")

    def _find(self, name: str) -> Queue:
        queue = self._broker.queues.get(name)
        if queue is None:
            raise Refused(404, f"NOT_FOUND - no queue '{name}' in vhost '/'")
        self._check_owner(queue)
        return queue

    def _on_queue_bind(self, method: commands.Queue.Bind) -> None:
        queue, exchange = self._find(method.queue), self._broker.exchanges.get(method.exchange)
        if exchange is None:
            raise Refused(404, f"NOT_FOUND - no exchange '{method.exchange}' in vhost '/'")
        queues = exchange.bindings.setdefault(method.routing_key or "", [])
        if queue not in queues:
            queues.append(queue)
        self._say(commands.Queue.BindOk())

    def _on_queue_unbind(self, method: commands.Queue.Unbind) -> None:
        queue, exchange = self._find(method.queue), self._broker.exchanges[method.exchange]
        queues = exchange.bindings.get(method.routing_key or "", [])
        if queue in queues:
            queues.remove(queue)
        self._say(commands.Queue.UnbindOk())

    def _on_queue_delete(self, method: commands.Queue.Delete) -> None:
        queue = self._broker.queues.get(method.queue)
        count = self._broker.delete(queue) if queue is not None else 0
        self._say(commands.Queue.DeleteOk(message_count=count))

    # Consuming.

    def _on_qos(self, method: commands.Basic.Qos) -> None:
        self._prefetch = method.prefetch_count or 0
        self._say(commands.Basic.QosOk())

    def _on_consume(self, method: commands.Basic.Consume) -> None:
        queue = self._find(method.queue)
        consumer = Consumer(
            tag=method.consumer_tag,
            owner=self._peer,
            queue=queue,
            deliver=self._deliver,
            limit=self._prefetch,
            no_ack=method.no_ack,
        )
        self._consumers[consumer.tag] = consumer
        self._say(commands.Basic.ConsumeOk(consumer_tag=consumer.tag))
        queue.consumers.append(consumer)
        queue.hand_out(self._broker.clock())

    def _on_cancel(self, method: commands.Basic.Cancel) -> None:
        consumer = self._consumers.pop(method.consumer_tag or "", None)
        if consumer is not None:
            self._broker.leave(consumer)
        self._say(commands.Basic.CancelOk(consumer_tag=method.consumer_tag))

    def _on_get(self, method: commands.Basic.Get) -> None:
        queue = self._find(method.queue)
        stored = queue.take(self._broker.clock())
        if stored is None:
            self._say(commands.Basic.GetEmpty())
            return
        self._tag += 1
        if not method.no_ack:
            queue.unacked += 1
            self._unacked[self._tag] = Unacked(queue, stored, None)
        answer = commands.Basic.GetOk(
            delivery_tag=self._tag,
            redelivered=stored.is_redelivered,
            exchange=stored.exchange,
            routing_key=stored.routing_key,
            message_count=len(queue.ready),
        )
        self._send(answer, stored.header, stored.body)

    def _deliver(self, consumer: Consumer, stored: Stored) -> None:
        self._tag += 1
        if not consumer.no_ack:
            self._unacked[self._tag] = Unacked(consumer.queue, stored, consumer)
        deliver = commands.Basic.Deliver(
            consumer_tag=consumer.tag,
            delivery_tag=self._tag,
            redelivered=stored.is_redelivered,
            exchange=stored.exchange,
            routing_key=stored.routing_key,
        )
        self._send(deliver, stored.header, stored.body)

    def _on_ack(self, method: commands.Basic.Ack) -> None:
        self._settle(method.delivery_tag or 0, is_multiple=method.multiple, is_back=False)

    def _on_nack(self, method: commands.Basic.Nack) -> None:
        self._settle(method.delivery_tag or 0, is_multiple=method.multiple, is_back=method.requeue)

    def _on_reject(self, method: commands.Basic.Reject) -> None:
        self._settle(method.delivery_tag or 0, is_multiple=False, is_back=method.requeue)

    def _settle(self, tag: int, *, is_multiple: bool, is_back: bool) -> None:
        tags = [t for t in self._unacked if t <= tag] if is_multiple else [tag]
        if any(t not in self._unacked for t in tags):
            raise Refused(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        self._release([self._unacked.pop(t) for t in tags], is_back=is_back)

    def _release(self, released: list[Unacked], *, is_back: bool) -> None:
        queues: dict[Queue, list[Stored]] = {}
        for one in released:
            if one.consumer is not None:
                one.consumer.unacked -= 1
            queues.setdefault(one.queue, []).append(one.stored)
        now = self._broker.clock()
        for queue, messages in queues.items():
            if self._broker.queues.get(queue.name) is not queue:
                continue  # deleted meanwhile, and all that was in it
            if is_back:
                queue.give_back(messages, now)
            else:
                queue.unacked -= len(messages)
                queue.hand_out(now)


_HANDLERS: dict[str, Callable[[Channel, Any], None]] = {
    "Exchange.Declare": Channel._on_exchange_declare,
    "Queue.Declare": Channel._on_queue_declare,
    "Queue.Bind": Channel._on_queue_bind,
    "Queue.Unbind": Channel._on_queue_unbind,
    "Queue.Delete": Channel._on_queue_delete,
    "Basic.Qos": Channel._on_qos,
    "Basic.Consume": Channel._on_consume,
    "Basic.Cancel": Channel._on_cancel,
    "Basic.Get": Channel._on_get,
    "Basic.Ack": Channel._on_ack,
    "Basic.Nack": Channel._on_nack,
    "Basic.Reject": Channel._on_reject,
}
