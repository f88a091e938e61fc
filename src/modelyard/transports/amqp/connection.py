"""A connection to the broker: AMQP 0-9-1 with one channel, as callbacks and futures.

Client libraries for asyncio pass each frame from task to task. Publishing, confirming, delivering
and acking one message took 500 to 780 µs of CPU with aio-pika, 320 µs with pika and 230 to 270 µs
here, measured together on a busy machine. That is most of the cost of a broker, so this module
implements the part of the protocol that we use. See ADR 6.

Path of a request: in the gateway ``AmqpTransport._depart`` calls ``publish``. In the worker
``data_received`` parses what the broker delivers (``parser.py``), and passes each bundle to
``AmqpConsumer._on_bundle``. Answers take the same way back, from ``Replies._send`` to
``AmqpTransport._on_reply``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

from pamqp import base, commands, frame
from pamqp.header import ProtocolHeader
from pamqp.heartbeat import Heartbeat

from modelyard.core.clock import Clock
from modelyard.transports.amqp import frames
from modelyard.transports.amqp.confirms import (
    BlockedError,
    Confirms,
    ConnectionLostError,
    NackedError,
    ReturnedError,
)
from modelyard.transports.amqp.frames import CHANNEL, Properties
from modelyard.transports.amqp.parser import (
    LARGEST_FRAME_BYTES,
    Answer,
    Blocked,
    Confirmed,
    Ended,
    Event,
    Got,
    Message,
    Parser,
    Returned,
)

log = logging.getLogger(__name__)

HEARTBEAT_S = 10  # or less, if the broker asks for less
CLOSE_TIMEOUT_S = 1.0
HALF_FRAME_S = 5.0
TICK_S = 0.1

_BYE = commands.Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0)
OnMessage = Callable[[Message], None]


class Connection(asyncio.Protocol):
    """One connection and its channel. Made by ``opening.open_connection``.

    Args:
        confirm_timeout_s: A message that is not confirmed by then fails with UnconfirmedError.
        on_lost: Called once, with the reason, when the connection is lost.
        clock: For timeouts.
    """

    def __init__(
        self, *, confirm_timeout_s: float, on_lost: Callable[[str], None], clock: Clock
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._confirm_timeout_s = confirm_timeout_s
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._parser = Parser()
        self._asked: deque[tuple[list[str], asyncio.Future[base.Frame | Got]]] = deque()
        self._consumers: dict[str, OnMessage] = {}
        self._confirms = Confirms()
        self._frame_bytes = LARGEST_FRAME_BYTES
        self._heartbeat_s = HEARTBEAT_S
        self._heard = self._said = clock()
        self._frames_seen, self._frames_seen_at = 0, self._heard
        self.server: Mapping[str, object] = {}  # what the broker says of itself
        self.is_blocked = False
        self.blocked_since = 0.0
        self._ended = asyncio.Event()
        self.is_lost = False
        self.is_cancelled = False  # lost because a queue that we consume was deleted

    async def greet(self) -> None:
        """Send the protocol header, and wait for the broker's answer."""
        started = self._expect(["Connection.Start"])
        self._transport.write(ProtocolHeader().marshal())
        start = await started
        assert isinstance(start, commands.Connection.Start)
        self.server = start.server_properties

    def begin(self, *, frame_bytes: int, heartbeat_s: int) -> None:
        """Start the timers after the handshake. ``frame_bytes``: size limit of a frame."""
        self._frame_bytes, self._heartbeat_s = frame_bytes, heartbeat_s
        self._loop.call_later(TICK_S, self._tick)

    # Calls to the broker.

    async def call(self, method: base.Frame, names: list[str] | None = None) -> base.Frame:
        """Call a method and return the broker's answer. ``names``: the expected answers, if not
        those of the method itself.

        Raises:
            ConnectionLostError: The broker refused, which closes the connection, or is gone.
        """
        answer = await self._ask(method, names or method.valid_responses)
        assert not isinstance(answer, Got)
        return answer

    async def _ask(self, method: base.Frame, names: list[str]) -> base.Frame | Got:
        if self.is_lost:
            raise ConnectionLostError("the connection is gone")
        answer = self._expect(names)
        self.tell(method)
        return await answer

    async def get(self, queue: str) -> Got | None:
        """Fetch the first message of a queue, to be acked later; None if the queue is empty."""
        answer = await self._ask(commands.Basic.Get(queue=queue), ["Basic.GetOk", "Basic.GetEmpty"])
        return answer if isinstance(answer, Got) else None

    async def confirm_publishing(self) -> None:
        """Turn on publisher confirms."""
        await self.call(commands.Confirm.Select())

    async def consume(self, queue: str, on_message: OnMessage, *, no_ack: bool = False) -> str:
        """Consume ``queue`` with ``on_message``; returns the consumer's tag."""
        tag = f"{queue}#{len(self._consumers)}"
        self._consumers[tag] = on_message
        await self.call(commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack))
        return tag

    async def cancel(self, tag: str) -> None:
        """Stop deliveries to this consumer."""
        await self.call(commands.Basic.Cancel(consumer_tag=tag))

    def ack(self, tag: int) -> None:
        """Ack a message."""
        if not self.is_lost:
            self._transport.write(frames.ack_frame(tag))
            self._said = self._clock()

    def nack(self, tag: int) -> None:
        """Return a message to its queue, to be delivered again."""
        if not self.is_lost:
            self.tell(commands.Basic.Nack(delivery_tag=tag, multiple=False, requeue=True))

    def publish(
        self,
        body: bytes | bytearray,
        *,
        exchange: str,
        routing_key: str,
        properties: Properties,
        is_mandatory: bool = True,
        is_persistent: bool = False,
    ) -> asyncio.Future[None]:
        """Publish a message; the future is done when the broker has confirmed it.

        It fails with ReturnedError, NackedError, BlockedError (the message may still be delivered)
        or ConnectionLostError. Each message gets a new id here, by which a returned one is matched.
        """
        confirmed = self._loop.create_future()
        if self.is_lost:
            confirmed.set_exception(ConnectionLostError("the connection is gone"))
            return confirmed
        if self.is_blocked:
            confirmed.set_exception(BlockedError("the broker accepts no messages now"))
            return confirmed
        self._said = now = self._clock()
        number = self._confirms.add(confirmed, now=now)
        properties = properties._replace(message_id=str(number))
        method = frames.publish_frame(exchange, routing_key, is_mandatory=is_mandatory)
        head = method + frames.header_frame(properties, len(body), is_persistent=is_persistent)
        step = self._frame_bytes - frames.FRAME_HEADER.size - 1
        if len(body) <= step:
            self._transport.write(head + frames.body_frame(body))
        else:
            self._transport.writelines([head, *frames.body_frames(body, step)])
        return confirmed

    async def close(self, *, is_polite: bool = True) -> None:
        """Close the connection; if ``is_polite``, with a close handshake of at most 1 s."""
        self._on_lost = lambda _: None  # the loss is intended
        if is_polite and not self.is_lost:
            self.tell(_BYE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._ended.wait()
        self._lose("closed")
        await self._ended.wait()

    def _expect(self, names: list[str]) -> asyncio.Future[base.Frame | Got]:
        answer: asyncio.Future[base.Frame | Got] = self._loop.create_future()
        self._asked.append((names, answer))
        return answer

    def tell(self, method: base.Frame) -> None:
        """Send a method that the broker does not answer."""
        channel = 0 if method.name.startswith("Connection.") else CHANNEL
        self._transport.write(frame.marshal(method, channel))
        self._said = self._clock()

    # Events from the broker.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is outstanding (called by the loop)."""
        self._ended.set()
        self._lose(str(exc or "the broker closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Parse and handle received bytes (called by the loop)."""
        self._heard = self._clock()
        for event in self._parser.feed(data):
            if self.is_lost:
                return
            if isinstance(event, Message):
                self._on_message(event)
            elif isinstance(event, Confirmed):
                self._on_confirmed(event)
            else:
                self._on_event(event)

    def _on_message(self, message: Message) -> None:
        """Pass a message to its consumer. If that raises, the connection goes on."""
        consumer = self._consumers.get(message.consumer)
        if consumer is None:
            self._lose(f"the broker delivered to an unknown consumer {message.consumer!r}")
            return
        try:
            consumer(message)
        except Exception:
            log.exception("consumer_failed", extra={"consumer": message.consumer})

    def _on_confirmed(self, event: Confirmed) -> None:
        error = None if event.is_taken else NackedError("the queue is full")
        if event.is_multiple:
            self._confirms.settle_up_to(event.number, error)
        else:
            self._confirms.settle(event.number, error)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Returned):
            self._confirms.settle(event.number, ReturnedError(event.why))
        elif isinstance(event, Answer):
            self._on_answer(event.method, event.method.name)
        elif isinstance(event, Got):
            self._on_answer(event, "Basic.GetOk")
        elif isinstance(event, Ended):
            self.is_cancelled = event.is_cancelled
            self._lose(event.why)
        elif isinstance(event, Blocked):
            self._on_blocked(event)

    def _on_blocked(self, event: Blocked) -> None:
        self.is_blocked = event.is_blocked
        if event.is_blocked:
            log.warning("broker_blocked", extra={"reason": event.why})
            self.blocked_since = self._clock()
            self._confirms.fail_all(BlockedError("the broker accepts no messages now"))
        else:
            log.info("broker_unblocked")

    def _on_answer(self, received: base.Frame | Got, name: str) -> None:
        """Resolve the oldest call that expects this answer. Answers to different methods may come
        in any order.
        """
        asked = next((one for one in self._asked if name in one[0]), None)
        if asked is None:
            self._lose(f"unexpected answer from the broker: {name}")
            return
        self._asked.remove(asked)
        if not asked[1].done():
            asked[1].set_result(received)

    def _tick(self) -> None:
        """Check timeouts and send heartbeats."""
        if self.is_lost:
            return
        now = self._clock()
        self._confirms.fail_late(now - self._confirm_timeout_s)
        if now - self._said >= self._heartbeat_s / 2:
            self._transport.write(Heartbeat().marshal())
            self._said = now
        if not self._parser.is_partial or self._parser.frames != self._frames_seen:
            self._frames_seen, self._frames_seen_at = self._parser.frames, now
        if now - self._frames_seen_at > HALF_FRAME_S:  # its length field may be corrupt
            self._lose("a frame was not completed in time")
        elif now - self._heard > 2 * self._heartbeat_s:
            self._lose("the broker is silent")
        else:
            self._loop.call_later(TICK_S, self._tick)

    def _lose(self, why: str) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self._transport.abort()
        self._confirms.fail_all(ConnectionLostError(why))
        for _, answer in self._asked:
            if not answer.done():
                answer.set_exception(ConnectionLostError(why))
                answer.exception()  # the caller may have given up: mark it as retrieved
        self._on_lost(why)
