"""One connection to the broker: frames in, frames out."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pamqp import base, commands, frame
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from tests.simulation.rabbitmq.queue import Consumer, Queue, Stored

if TYPE_CHECKING:
    from tests.simulation.rabbitmq.broker import InMemoryBroker

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_MAX = 131_072
CHANNEL_MAX = 2047
_HEADER = struct.Struct(">BHI")
_END = b"\xce"
_METHOD, _CONTENT, _BODY = 1, 2, 3
_PUBLISH = b"\x00\x3c\x00\x28"
_CAPABILITIES = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
}


class Refused(Exception):
    """What a client must not do: its channel, or its connection, is closed."""

    def __init__(self, code: int, text: str, *, is_connection: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.is_connection = is_connection


class Unacked:
    """A message that was delivered and not acked."""

    __slots__ = ("consumer", "queue", "stored")

    def __init__(self, queue: Queue, stored: Stored, consumer: Consumer | None) -> None:
        self.queue = queue
        self.stored = stored
        self.consumer = consumer


class Peer(asyncio.Protocol):
    """A connection with one channel."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._is_greeted = self._is_over = self._is_closing = False
        self._is_blocked = False
        self._can_be_blocked = self._can_be_cancelled = False
        self._channel = 1
        self._is_channel_open = False
        self._prefetch = 0
        self._consumers: dict[str, Consumer] = {}
        self._unacked: dict[int, Unacked] = {}
        self._tag = 0
        self._publishing: tuple[str, str, bool] | None = None
        self._content: tuple[bytes, float | None, bool, int] | None = None
        self._body: list[bytes] = []
        self._has_confirms = False
        self._published = 0
        self._to_confirm: list[tuple[int, bool]] = []
        self._is_confirming = False
        self._heard = self._said = 0.0
        self._heartbeat_s = 0.0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._broker.peers.append(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._received += data
        if not self._is_blocked:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    # Called by the broker.

    def shut(self, *, is_polite: bool) -> None:
        """End the connection because the broker ends."""
        self._is_over = True
        unacked, self._unacked = list(self._unacked.values()), {}
        self._release(unacked, is_back=True)
        if is_polite and self._is_greeted:
            close = commands.Connection.Close(
                reply_code=320,
                reply_text="CONNECTION_FORCED - broker forced connection closure with reason "
                "'shutdown'",
                class_id=0,
                method_id=0,
            )
            self._transport.write(frame.marshal(close, 0))
            self._transport.close()
        else:
            self._transport.abort()

    def unblock(self) -> None:
        """Read on: the alarm is over."""
        if self._is_blocked:
            self._is_blocked = False
            if self._can_be_blocked:
                self._tell(commands.Connection.Unblocked(), channel=0)
            self._read()

    def cancelled(self, consumer: Consumer) -> None:
        """Tell of a queue that is gone."""
        self._consumers.pop(consumer.tag, None)
        if self._can_be_cancelled and not self._is_over:
            self._tell(commands.Basic.Cancel(consumer_tag=consumer.tag, nowait=True))

    # In.

    def _read(self) -> None:
        data, position = self._received, 0
        try:
            if not self._is_greeted:
                if len(data) < len(PROTOCOL_HEADER):
                    return
                if data[:8] != PROTOCOL_HEADER:
                    self._transport.write(PROTOCOL_HEADER)
                    self._leave()
                    self._transport.close()
                    return
                position, self._is_greeted = 8, True
                self._greet()
            while len(data) - position >= 7 and not (self._is_over or self._is_blocked):
                kind, channel, size = _HEADER.unpack_from(data, position)
                if size > FRAME_MAX:
                    raise Refused(501, f"FRAME_ERROR - a frame of {size}", is_connection=True)
                end = position + 7 + size
                if len(data) <= end:
                    break
                if data[end] != 0xCE:
                    raise Refused(501, "FRAME_ERROR - no end", is_connection=True)
                whole = bytes(data[position : end + 1])
                position = end + 1
                self._on_frame(kind, channel, whole)
        except Refused as refused:
            self._refuse(refused)
        except (PAMQPException, ValueError, LookupError, TypeError, struct.error) as error:
            self._refuse(Refused(502, f"SYNTAX_ERROR - {error}", is_connection=True))
        finally:
            del self._received[:position]
        self._flush_confirms()

    def _greet(self) -> None:
        properties: dict[str, Any] = {"product": "InMemoryBroker", "capabilities": _CAPABILITIES}
        start = commands.Connection.Start(server_properties=properties, mechanisms="PLAIN")
        self._tell(start, channel=0)

    def _on_frame(self, kind: int, channel: int, whole: bytes) -> None:
        if kind == _BODY:
            self._on_body(whole[7:-1])
            return
        if self._is_closing and kind != _METHOD:
            return
        received = frame.unmarshal(whole)[2]
        if isinstance(received, ContentHeader):
            self._on_header(received, whole[7:-1])
        elif isinstance(received, Heartbeat):
            pass
        elif isinstance(received, base.Frame):
            if self._is_closing and received.name not in ("Channel.CloseOk", "Connection.Close"):
                return
            self._channel = channel or self._channel
            handler = _HANDLERS.get(received.name)
            if handler is None:
                raise Refused(540, f"NOT_IMPLEMENTED - {received.name}", is_connection=True)
            handler(self, received)

    def _refuse(self, refused: Refused) -> None:
        """Close what is to be closed."""
        if refused.is_connection or not self._is_channel_open:
            self._tell(
                commands.Connection.Close(
                    reply_code=refused.code, reply_text=refused.text[:255], class_id=0, method_id=0
                ),
                channel=0,
            )
            self._leave()
            self._transport.close()
            return
        self._tell(
            commands.Channel.Close(
                reply_code=refused.code, reply_text=refused.text[:255], class_id=0, method_id=0
            )
        )
        self._close_channel()
        self._is_closing = True

    # Shaking hands.

    def _on_start_ok(self, method: commands.Connection.StartOk) -> None:
        if method.response != "\0guest\0guest":
            raise Refused(403, "ACCESS_REFUSED - Login was refused", is_connection=True)
        claimed = cast("dict[str, Any]", method.client_properties or {}).get("capabilities", {})
        self._can_be_blocked = bool(claimed.get("connection.blocked"))
        self._can_be_cancelled = bool(claimed.get("consumer_cancel_notify"))
        tune = commands.Connection.Tune(channel_max=CHANNEL_MAX, frame_max=FRAME_MAX, heartbeat=60)
        self._tell(tune, channel=0)

    def _on_tune_ok(self, method: commands.Connection.TuneOk) -> None:
        self._heartbeat_s = float(method.heartbeat or 0)
        if self._heartbeat_s:
            self._loop.call_later(self._heartbeat_s / 2, self._beat)

    def _beat(self) -> None:
        """Say that we live, and see whether the client does."""
        if self._is_over:
            return
        now = self._loop.time()
        if now - self._heard > 2 * self._heartbeat_s and not self._is_blocked:
            self._transport.abort()
            self._leave()
            return
        if now - self._said >= self._heartbeat_s / 2:
            self._said = now
            self._transport.write(Heartbeat().marshal())
        self._loop.call_later(self._heartbeat_s / 2, self._beat)

    def _on_open(self, method: commands.Connection.Open) -> None:
        if method.virtual_host != "/":
            raise Refused(530, f"NOT_ALLOWED - no vhost {method.virtual_host}", is_connection=True)
        self._tell(commands.Connection.OpenOk(), channel=0)

    def _on_close(self, _: base.Frame) -> None:
        self._tell(commands.Connection.CloseOk(), channel=0)
        self._leave()
        self._transport.close()

    def _on_channel_open(self, _: base.Frame) -> None:
        self._is_channel_open, self._is_closing = True, False
        self._tell(commands.Channel.OpenOk())

    def _on_channel_close(self, _: base.Frame) -> None:
        self._close_channel()
        self._tell(commands.Channel.CloseOk())

    def _on_channel_close_ok(self, _: base.Frame) -> None:
        self._is_closing = False

    # Topology.

    def _on_exchange_declare(self, method: commands.Exchange.Declare) -> None:
        from tests.simulation.rabbitmq.broker import Exchange

        name, known = method.exchange, self._broker.exchanges.get(method.exchange)
        if known is None and method.passive:
            raise Refused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        if known is None:
            known = Exchange(method.exchange_type, is_durable=method.durable)
            self._broker.exchanges[name] = known
        elif not method.passive and (known.kind, known.is_durable) != (
            method.exchange_type,
            method.durable,
        ):
            raise Refused(406, f"PRECONDITION_FAILED - inequivalent arg for exchange '{name}'")
        self._tell(commands.Exchange.DeclareOk())

    def _on_queue_declare(self, method: commands.Queue.Declare) -> None:
        queue = self._broker.queues.get(method.queue)
        if queue is None:
            if method.passive:
                raise Refused(404, f"NOT_FOUND - no queue '{method.queue}' in vhost '/'")
            queue = Queue(
                method.queue,
                owner=self if method.exclusive else None,
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
        self._tell(
            commands.Queue.DeclareOk(
                queue=queue.name,
                message_count=len(queue.ready),
                consumer_count=len(queue.consumers),
            )
        )

    def _check_owner(self, queue: Queue) -> None:
        if queue.owner is not None and queue.owner is not self:
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
        self._tell(commands.Queue.BindOk())

    def _on_queue_unbind(self, method: commands.Queue.Unbind) -> None:
        queue, exchange = self._find(method.queue), self._broker.exchanges[method.exchange]
        queues = exchange.bindings.get(method.routing_key or "", [])
        if queue in queues:
            queues.remove(queue)
        self._tell(commands.Queue.UnbindOk())

    def _on_queue_delete(self, method: commands.Queue.Delete) -> None:
        queue = self._broker.queues.get(method.queue)
        count = self._broker.delete(queue) if queue is not None else 0
        self._tell(commands.Queue.DeleteOk(message_count=count))

    # Consuming.

    def _on_qos(self, method: commands.Basic.Qos) -> None:
        self._prefetch = method.prefetch_count or 0
        self._tell(commands.Basic.QosOk())

    def _on_consume(self, method: commands.Basic.Consume) -> None:
        queue = self._find(method.queue)
        consumer = Consumer(
            tag=method.consumer_tag,
            owner=self,
            queue=queue,
            deliver=self._deliver,
            limit=self._prefetch,
            no_ack=method.no_ack,
        )
        self._consumers[consumer.tag] = consumer
        self._tell(commands.Basic.ConsumeOk(consumer_tag=consumer.tag))
        queue.consumers.append(consumer)
        queue.hand_out(self._broker.clock())

    def _on_cancel(self, method: commands.Basic.Cancel) -> None:
        consumer = self._consumers.pop(method.consumer_tag, None)
        if consumer is not None:
            self._broker.leave(consumer)
        self._tell(commands.Basic.CancelOk(consumer_tag=method.consumer_tag))

    def _on_get(self, method: commands.Basic.Get) -> None:
        queue = self._find(method.queue)
        stored = queue.take(self._broker.clock())
        if stored is None:
            self._tell(commands.Basic.GetEmpty())
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
        self._settle(
            method.delivery_tag or 0, is_multiple=method.multiple, is_back=method.requeue
        )

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

    # Publishing.

    def _on_select(self, _: base.Frame) -> None:
        self._has_confirms = True
        self._tell(commands.Confirm.SelectOk())

    def _on_publish(self, method: commands.Basic.Publish) -> None:
        self._publishing = (method.exchange, method.routing_key, method.mandatory)
        if self._broker.has_alarm:
            self._is_blocked = True
            if self._can_be_blocked:
                self._tell(commands.Connection.Blocked(reason="low on memory"), channel=0)

    def _on_header(self, header: ContentHeader, payload: bytes) -> None:
        if self._publishing is None:
            raise Refused(505, "UNEXPECTED_FRAME - a header", is_connection=True)
        properties = header.properties
        assert properties is not None
        expires = None
        if properties.expiration is not None:
            if not str(properties.expiration).isdigit():
                raise Refused(406, f"PRECONDITION_FAILED - expiration {properties.expiration!r}")
            expires = self._broker.clock() + int(properties.expiration) / 1000
        is_persistent = properties.delivery_mode == 2
        self._content = (payload, expires, is_persistent, header.body_size)
        self._body = []
        if not header.body_size:
            self._on_message()

    def _on_body(self, piece: bytes) -> None:
        if self._content is None:
            if self._is_closing:
                return
            raise Refused(505, "UNEXPECTED_FRAME - a body", is_connection=True)
        self._body.append(piece)
        if sum(map(len, self._body)) >= self._content[3]:
            self._on_message()

    def _on_message(self) -> None:
        assert self._publishing is not None
        assert self._content is not None
        (exchange, key, is_mandatory), self._publishing = self._publishing, None
        (header, expires, is_persistent, _), self._content = self._content, None
        body, self._body = self._body, []
        self._published += 1
        if exchange and exchange not in self._broker.exchanges:
            raise Refused(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'")
        is_routed, is_taken = self._broker.publish(
            exchange, key, header=header, body=body, expires=expires, is_persistent=is_persistent
        )
        if not is_routed and is_mandatory:
            back = commands.Basic.Return(
                reply_code=312, reply_text="NO_ROUTE", exchange=exchange, routing_key=key
            )
            self._send(back, header, body)
        if self._has_confirms:
            self._to_confirm.append((self._published, is_taken))

    def _flush_confirms(self) -> None:
        if not self._to_confirm or self._is_confirming:
            return
        delay_s = self._broker.confirm_delay_s
        if delay_s:
            self._is_confirming = True
            delay_s *= self._broker.chance.random()
            self._loop.call_later(delay_s, self._confirm)
        else:
            self._confirm()

    def _confirm(self) -> None:
        """Confirm what was published: several at once, where they were all taken."""
        self._is_confirming = False
        due, self._to_confirm = self._to_confirm, []
        count = 0
        for position, (number, is_taken) in enumerate(due):
            if not is_taken:
                self._tell(commands.Basic.Nack(delivery_tag=number, multiple=False, requeue=False))
                count = 0
                continue
            count += 1
            is_last = position + 1 == len(due) or not due[position + 1][1]
            if is_last:
                self._tell(commands.Basic.Ack(delivery_tag=number, multiple=count > 1))
                count = 0

    # Out, and the end.

    def _tell(self, method: base.Frame, *, channel: int | None = None) -> None:
        if self._is_over:
            return
        self._said = self._loop.time()
        self._transport.write(frame.marshal(method, self._channel if channel is None else channel))

    def _send(self, method: base.Frame, header: bytes, body: list[bytes]) -> None:
        """Send a method with its content."""
        if self._is_over:
            return
        self._said = self._loop.time()
        channel = self._channel
        parts = [frame.marshal(method, channel), _HEADER.pack(_CONTENT, channel, len(header))]
        parts += [header, _END]
        for piece in body:
            parts += [_HEADER.pack(_BODY, channel, len(piece)), piece, _END]
        self._transport.write(b"".join(parts))

    def _close_channel(self) -> None:
        """Give back what is not acked."""
        self._is_channel_open = False
        self._publishing = self._content = None
        self._to_confirm.clear()
        consumers, self._consumers = list(self._consumers.values()), {}
        for consumer in consumers:
            if consumer in consumer.queue.consumers:
                consumer.queue.consumers.remove(consumer)
        unacked, self._unacked = list(self._unacked.values()), {}
        self._release(unacked, is_back=True)
        for consumer in consumers:
            if consumer.queue.is_auto_delete and not consumer.queue.consumers:
                self._broker.delete(consumer.queue)

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._close_channel()
            self._broker.left(self)


_HANDLERS: dict[str, Callable[[Peer, Any], None]] = {
    "Connection.StartOk": Peer._on_start_ok,
    "Connection.TuneOk": Peer._on_tune_ok,
    "Connection.Open": Peer._on_open,
    "Connection.Close": Peer._on_close,
    "Connection.CloseOk": lambda peer, _: None,
    "Channel.Open": Peer._on_channel_open,
    "Channel.Close": Peer._on_channel_close,
    "Channel.CloseOk": Peer._on_channel_close_ok,
    "Exchange.Declare": Peer._on_exchange_declare,
    "Queue.Declare": Peer._on_queue_declare,
    "Queue.Bind": Peer._on_queue_bind,
    "Queue.Unbind": Peer._on_queue_unbind,
    "Queue.Delete": Peer._on_queue_delete,
    "Basic.Qos": Peer._on_qos,
    "Basic.Consume": Peer._on_consume,
    "Basic.Cancel": Peer._on_cancel,
    "Basic.Get": Peer._on_get,
    "Basic.Ack": Peer._on_ack,
    "Basic.Nack": Peer._on_nack,
    "Basic.Reject": Peer._on_reject,
    "Basic.Publish": Peer._on_publish,
    "Confirm.Select": Peer._on_select,
}
