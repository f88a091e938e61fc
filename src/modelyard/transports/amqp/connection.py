"""A connection to the broker: AMQP 0-9-1 with one channel, as callbacks and futures.

Client libraries for asyncio hand each frame from task to task: a message published, confirmed,
delivered and acked cost 500 to 780 µs of CPU with aio-pika and 320 with pika, against 110 here, in
one run of one process. On the ordinary way of a request that is most of what a broker costs, so
here is the part of the protocol that we use. ``frames.py`` reads and writes the frames that every
message needs, pamqp all others. See ADR 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from pamqp import base, commands, frame
from pamqp.exceptions import PAMQPException
from pamqp.header import ProtocolHeader
from pamqp.heartbeat import Heartbeat

from modelyard.transports.amqp import frames
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.frames import CHANNEL, Properties

log = logging.getLogger(__name__)

HEARTBEAT_S = 10
CLOSE_TIMEOUT_S = 1.0
TICK_S = 0.1

_BYE = commands.Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0)
_LARGEST_FRAME_BYTES = 131_072
_OFTEN = (frames.DELIVER, frames.CONFIRM)
_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


class BrokerError(Exception):
    """The broker did not do what it was asked."""


class ConnectionLostError(BrokerError):
    """The connection is gone, or must be given up."""


class ReturnedError(BrokerError):
    """No queue takes the message."""


class NackedError(BrokerError):
    """The queue is full, or could not keep the message."""


class BlockedError(BrokerError):
    """The broker takes no messages now: it is short of memory or disk."""


class UnconfirmedError(BlockedError):
    """The broker did not confirm in time: it is silent."""


class Delivered(NamedTuple):
    """A message from a queue. ``tag`` is for ``ack``."""

    tag: int
    is_redelivered: bool
    properties: Properties
    body: bytes


OnDelivered = Callable[[Delivered], None]


class Connection(asyncio.Protocol):
    """One connection and its channel. Made by ``open``.

    Args:
        confirm_timeout_s: A message that is not confirmed by then fails with UnconfirmedError.
        on_lost: Called once, with the reason, when the connection is of no more use.
    """

    def __init__(self, *, confirm_timeout_s: float, on_lost: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._confirm_timeout_s = confirm_timeout_s
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._asked: deque[tuple[list[str], asyncio.Future[base.Frame]]] = deque()
        self._consumers: dict[str, OnDelivered] = {}
        self._unconfirmed: dict[int, tuple[float, asyncio.Future[None]]] = {}
        self._published = 0
        self._content: frames.Delivery | commands.Basic.Return | None = None
        self._properties = Properties()
        self._body: list[bytes] = []
        self._body_left = 0
        self._heard = self._said = time.monotonic()
        self.is_blocked = False
        self.blocked_since = 0.0
        self._ended = asyncio.Event()
        self.is_lost = False
        self.is_cancelled = False  # lost because a queue that was consumed is gone

    @classmethod
    async def open(
        cls,
        address: Address,
        *,
        name: str,
        confirm_timeout_s: float,
        on_lost: Callable[[str], None],
    ) -> Connection:
        """Connect and open the channel; ``name`` is what the broker's administrator sees.

        Raises:
            OSError: There is no way to the broker.
            ConnectionLostError: It does not want us, and why.
        """
        _, self = await asyncio.get_running_loop().create_connection(
            lambda: cls(confirm_timeout_s=confirm_timeout_s, on_lost=on_lost),
            address.host,
            address.port,
            ssl=address.tls,
        )
        try:
            await self._shake_hands(address, name)
        except BaseException:
            await self.close(is_polite=False)
            raise
        return self

    async def _shake_hands(self, address: Address, name: str) -> None:
        started = self._expect(["Connection.Start"])
        self._transport.write(ProtocolHeader().marshal())
        await started
        start_ok = commands.Connection.StartOk(
            client_properties={
                "product": "Modelyard",
                "connection_name": name,
                "capabilities": cast("Any", _CAPABILITIES),
            },
            mechanism="PLAIN",
            response=f"\0{address.user}\0{address.password}",
        )
        tune = await self.call(start_ok, ["Connection.Tune"])
        assert isinstance(tune, commands.Connection.Tune)
        self._frame_bytes = min(tune.frame_max or _LARGEST_FRAME_BYTES, _LARGEST_FRAME_BYTES)
        self._write(
            commands.Connection.TuneOk(
                channel_max=tune.channel_max, frame_max=self._frame_bytes, heartbeat=HEARTBEAT_S
            )
        )
        await self.call(commands.Connection.Open(virtual_host=address.vhost))
        await self.call(commands.Channel.Open())
        self._loop.call_later(TICK_S, self._tick)

    # Asking the broker.

    async def call(self, method: base.Frame, names: list[str] | None = None) -> base.Frame:
        """Ask for something that the broker answers, and give its answer; ``names``: of the answers
        that are expected, unless the method says so itself.

        Raises:
            ConnectionLostError: The broker refused, which ends the connection, or is gone.
        """
        if self.is_lost:
            raise ConnectionLostError("the connection is gone")
        answer = self._expect(names or method.valid_responses)
        self._write(method)
        return await answer

    async def confirm_publishing(self) -> None:
        """Have the broker confirm what is published from now on."""
        await self.call(commands.Confirm.Select())

    async def consume(self, queue: str, on_delivered: OnDelivered, *, no_ack: bool = False) -> str:
        """Have the messages of ``queue`` given to ``on_delivered``; gives the consumer's tag."""
        tag = f"{queue}#{len(self._consumers)}"
        self._consumers[tag] = on_delivered
        await self.call(commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack))
        return tag

    async def cancel(self, tag: str) -> None:
        """Have no more messages delivered to this consumer."""
        await self.call(commands.Basic.Cancel(consumer_tag=tag))

    def ack(self, tag: int) -> None:
        """Tell the broker that a message needs to be delivered no more."""
        if not self.is_lost:
            self._transport.write(frames.ack_frame(tag))
            self._said = time.monotonic()

    def publish(
        self,
        body: bytes | bytearray,
        *,
        exchange: str,
        routing_key: str,
        properties: Properties,
        is_mandatory: bool = True,
    ) -> asyncio.Future[None]:
        """Send a message; the future is done once the broker has it.

        It fails with ReturnedError, NackedError, BlockedError (it may yet be delivered) or
        ConnectionLostError. The message's id is given here, anew for each message: it is how one
        that comes back is known.
        """
        confirmed = self._loop.create_future()
        if self.is_lost:
            confirmed.set_exception(ConnectionLostError("the connection is gone"))
            return confirmed
        if self.is_blocked:
            confirmed.set_exception(BlockedError("the broker takes no messages now"))
            return confirmed
        self._published += 1
        self._said = now = time.monotonic()
        self._unconfirmed[self._published] = (now, confirmed)
        properties = properties._replace(message_id=str(self._published))
        method = frames.publish_frame(exchange, routing_key, is_mandatory=is_mandatory)
        head = method + frames.header_frame(properties, len(body))
        step = self._frame_bytes - frames.FRAME_HEADER.size - 1
        if len(body) <= step:
            self._transport.write(head + frames.body_frame(body))
        else:
            self._transport.writelines([head, *frames.body_frames(body, step)])
        return confirmed

    async def close(self, *, is_polite: bool = True) -> None:
        """Hang up; being polite, take leave and wait for the answer, at most a second."""
        self._on_lost = lambda _: None  # it is wanted
        if is_polite and not self.is_lost:
            self._write(_BYE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._ended.wait()
        self._lose("closed")
        await self._ended.wait()

    def _expect(self, names: list[str]) -> asyncio.Future[base.Frame]:
        answer: asyncio.Future[base.Frame] = self._loop.create_future()
        self._asked.append((names, answer))
        return answer

    def _write(self, method: base.Frame) -> None:
        channel = 0 if method.name.startswith("Connection.") else CHANNEL
        self._transport.write(frame.marshal(method, channel))
        self._said = time.monotonic()

    # What the broker says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come (called by the loop)."""
        self._ended.set()
        self._lose(str(exc or "the broker closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Cut what arrives into frames (called by the loop)."""
        self._heard = time.monotonic()
        if self._received:
            self._received += data
            data = bytes(self._received)
        position, header_bytes = 0, frames.FRAME_HEADER.size
        try:
            while not self.is_lost and len(data) - position >= header_bytes:
                kind, _, size = frames.FRAME_HEADER.unpack_from(data, position)
                end = position + header_bytes + size
                if size > _LARGEST_FRAME_BYTES:
                    raise ValueError(f"a frame of {size} bytes")
                if len(data) <= end:
                    break
                if data[end : end + 1] != frames.FRAME_END:
                    raise ValueError("a frame without its end")
                if kind == frames.BODY:
                    self._on_body(data[position + header_bytes : end])
                elif kind == frames.HEADER:
                    self._on_header(data[position : end + 1])
                elif kind == frames.METHOD and data.startswith(_OFTEN, position + header_bytes):
                    self._on_often(data[position + header_bytes : end])
                else:
                    self._on_frame(frame.unmarshal(data[position : end + 1])[2])
                position = end + 1
        except (PAMQPException, ValueError, LookupError, TypeError, struct.error) as error:
            self._lose(f"the broker's words make no sense: {error!r}")
        self._received = bytearray(data[position:])

    def _on_often(self, payload: bytes) -> None:
        """Deal with what comes with every message."""
        if payload.startswith(frames.DELIVER):
            self._content = frames.read_delivery(payload)
        else:
            number, is_multiple = frames.read_confirm(payload)
            self._on_confirm(number, None, is_multiple=is_multiple)

    def _on_frame(self, received: frame.FrameTypes) -> None:
        if isinstance(received, commands.Basic.Return):
            self._content = received
        elif isinstance(received, commands.Basic.Nack):
            error = NackedError("the queue takes no more")
            self._on_confirm(received.delivery_tag, error, is_multiple=received.multiple)
        elif isinstance(received, (commands.Connection.Close, commands.Channel.Close)):
            self._lose(f"{received.reply_code} {received.reply_text}")
        elif isinstance(received, commands.Connection.CloseOk):
            self._lose("closed")
        elif isinstance(received, commands.Basic.Cancel):
            self.is_cancelled = True
            self._lose("a queue that was consumed is gone")
        elif isinstance(received, commands.Connection.Blocked):
            log.warning("broker_blocked", extra={"reason": received.reason})
            self.is_blocked, self.blocked_since = True, time.monotonic()
            self._fail_unconfirmed(BlockedError("the broker takes no messages now"))
        elif isinstance(received, commands.Connection.Unblocked):
            log.info("broker_unblocked")
            self.is_blocked = False
        elif not isinstance(received, Heartbeat):
            self._on_answer(cast("base.Frame", received))

    def _on_answer(self, received: base.Frame) -> None:
        """Give an answer to who asked first for one of its kind: those to questions of different
        kinds overtake each other.
        """
        asked = next((one for one in self._asked if received.name in one[0]), None)
        if asked is None:
            raise ValueError(f"nobody asked for {received.name}")
        self._asked.remove(asked)
        if not asked[1].done():
            asked[1].set_result(received)

    def _on_header(self, data: bytes) -> None:
        """Note what is to come."""
        self._body_left, self._properties = frames.read_header(data)
        if not self._body_left:
            self._on_content()

    def _on_body(self, piece: bytes) -> None:
        self._body.append(piece)
        self._body_left -= len(piece)
        if self._body_left <= 0:
            self._on_content()

    def _on_content(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        content, properties = self._content, self._properties
        if isinstance(content, frames.Delivery):
            consumer = self._consumers[content.consumer_tag]
            consumer(Delivered(content.tag, content.is_redelivered, properties, body))
        elif content is not None:
            self._settle(int(properties.message_id or 0), ReturnedError(content.reply_text))

    def _on_confirm(self, tag: int, error: BrokerError | None, *, is_multiple: bool) -> None:
        if is_multiple:
            for number in [n for n in self._unconfirmed if n <= tag]:
                self._settle(number, error)
        else:
            self._settle(tag, error)

    def _settle(self, number: int, error: BrokerError | None) -> None:
        """Settle a message; one that came back is confirmed too, and settled already."""
        _, confirmed = self._unconfirmed.pop(number, (0.0, None))
        if confirmed is None or confirmed.done():
            return
        if error is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(error)

    def _fail_unconfirmed(self, error: BrokerError) -> None:
        for number in list(self._unconfirmed):
            self._settle(number, error)

    def _tick(self) -> None:
        """Look after what must not take too long."""
        if self.is_lost:
            return
        now = time.monotonic()
        late = now - self._confirm_timeout_s
        for number, (published, _) in list(self._unconfirmed.items()):
            if published > late:
                break
            self._settle(number, UnconfirmedError("the broker did not confirm in time"))
        if now - self._said >= HEARTBEAT_S / 2:
            self._transport.write(Heartbeat().marshal())
            self._said = now
        if now - self._heard > 2 * HEARTBEAT_S:
            self._lose("the broker is silent")
        else:
            self._loop.call_later(TICK_S, self._tick)

    def _lose(self, why: str) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self._transport.abort()
        self._fail_unconfirmed(ConnectionLostError(why))
        for _, answer in self._asked:
            if not answer.done():
                answer.set_exception(ConnectionLostError(why))
        self._on_lost(why)
