"""A connection to the broker: AMQP 0-9-1 with one channel, as callbacks and futures.

Client libraries for asyncio hand each frame from task to task: a message published, confirmed,
delivered and acked cost 500 to 780 µs of CPU with aio-pika and 320 with pika, against 110 here, in
one run of one process. On the ordinary way of a request that is most of what a broker costs, so
here is the part of the protocol that we use. ``parser.py`` reads what the broker sends. See ADR 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
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

HEARTBEAT_S = 10
CLOSE_TIMEOUT_S = 1.0
HALF_FRAME_S = 5.0
TICK_S = 0.1

_BYE = commands.Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0)
OnMessage = Callable[[Message], None]


class Connection(asyncio.Protocol):
    """One connection and its channel. Made by ``opening.open_connection``.

    Args:
        confirm_timeout_s: A message that is not confirmed by then fails with UnconfirmedError.
        on_lost: Called once, with the reason, when the connection is of no more use.
        clock: Time-outs are readings of it.
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
        self._heard = self._said = clock()
        self._frames_seen, self._frames_seen_at = 0, self._heard
        self.is_blocked = False
        self.blocked_since = 0.0
        self._ended = asyncio.Event()
        self.is_lost = False
        self.is_cancelled = False  # lost because a queue that was consumed is gone

    async def greet(self) -> None:
        """Say which protocol we speak, and wait until the broker says that it does."""
        started = self._expect(["Connection.Start"])
        self._transport.write(ProtocolHeader().marshal())
        await started

    def begin(self, *, frame_bytes: int) -> None:
        """Begin to watch the connection: hands are shaken. ``frame_bytes``: the largest frame."""
        self._frame_bytes = frame_bytes
        self._loop.call_later(TICK_S, self._tick)

    # Asking the broker.

    async def call(self, method: base.Frame, names: list[str] | None = None) -> base.Frame:
        """Ask for something that the broker answers, and give its answer; ``names``: of the answers
        that are expected, unless the method says so itself.

        Raises:
            ConnectionLostError: The broker refused, which ends the connection, or is gone.
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
        """Fetch the first message of a queue, to be acked; None if it is empty."""
        answer = await self._ask(commands.Basic.Get(queue=queue), ["Basic.GetOk", "Basic.GetEmpty"])
        return answer if isinstance(answer, Got) else None

    async def confirm_publishing(self) -> None:
        """Have the broker confirm what is published from now on."""
        await self.call(commands.Confirm.Select())

    async def consume(self, queue: str, on_message: OnMessage, *, no_ack: bool = False) -> str:
        """Have the messages of ``queue`` given to ``on_message``; gives the consumer's tag."""
        tag = f"{queue}#{len(self._consumers)}"
        self._consumers[tag] = on_message
        await self.call(commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack))
        return tag

    async def cancel(self, tag: str) -> None:
        """Have no more messages delivered to this consumer."""
        await self.call(commands.Basic.Cancel(consumer_tag=tag))

    def ack(self, tag: int) -> None:
        """Tell the broker that a message needs to be delivered no more."""
        if not self.is_lost:
            self._transport.write(frames.ack_frame(tag))
            self._said = self._clock()

    def nack(self, tag: int) -> None:
        """Have a message delivered again, to whoever consumes its queue."""
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
        """Hang up; being polite, take leave and wait for the answer, at most a second."""
        self._on_lost = lambda _: None  # it is wanted
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
        """Say something that the broker does not answer."""
        channel = 0 if method.name.startswith("Connection.") else CHANNEL
        self._transport.write(frame.marshal(method, channel))
        self._said = self._clock()

    # What the broker says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come (called by the loop)."""
        self._ended.set()
        self._lose(str(exc or "the broker closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Act on what arrives (called by the loop)."""
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
        """Give a message to its consumer, whose defects are not the broker's."""
        consumer = self._consumers.get(message.consumer)
        if consumer is None:
            self._lose(f"the broker delivers for {message.consumer!r}, which nobody consumes")
            return
        try:
            consumer(message)
        except Exception:
            log.exception("consumer_failed", extra={"consumer": message.consumer})

    def _on_confirmed(self, event: Confirmed) -> None:
        error = None if event.is_taken else NackedError("the queue takes no more")
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
            self._confirms.fail_all(BlockedError("the broker takes no messages now"))
        else:
            log.info("broker_unblocked")

    def _on_answer(self, received: base.Frame | Got, name: str) -> None:
        """Give an answer to who asked first for one of its kind: those to questions of different
        kinds overtake each other.
        """
        asked = next((one for one in self._asked if name in one[0]), None)
        if asked is None:
            self._lose(f"the broker answers {name}, which nobody asked")
            return
        self._asked.remove(asked)
        if not asked[1].done():
            asked[1].set_result(received)

    def _tick(self) -> None:
        """Look after what must not take too long."""
        if self.is_lost:
            return
        now = self._clock()
        self._confirms.fail_late(now - self._confirm_timeout_s)
        if now - self._said >= HEARTBEAT_S / 2:
            self._transport.write(Heartbeat().marshal())
            self._said = now
        if not self._parser.is_partial or self._parser.frames != self._frames_seen:
            self._frames_seen, self._frames_seen_at = self._parser.frames, now
        if now - self._frames_seen_at > HALF_FRAME_S:  # its length was damaged on the way
            self._lose("half a frame came, and not the rest")
        elif now - self._heard > 2 * HEARTBEAT_S:
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
                answer.exception()  # who asked may have given up waiting
        self._on_lost(why)
