"""A worker's announcements: a status at every change and every ``EVERY_S``; a card when it changes,
in each new session, and when a gateway asks for it.

The gateway's side is ``watcher.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from modelyard.core.messages import SERVING, Announcement, Schema
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.confirms import BlockedError
from modelyard.transports.amqp.connection import Connection
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.session import LOST, Broker, Session, Supervisor
from modelyard.transports.amqp.topology import (
    CARDS,
    CATALOG,
    HELLO,
    KEPT,
    SENT,
    QueueType,
    declare_kept_cards,
    declare_own_queue,
)

EVERY_S = 5.0  # while nothing changes
FORGET_AFTER_S = 16.0  # a worker that misses three statuses is gone
SPREAD_S = 0.5  # workers spread their answers to a gateway's hello over this time
PUBLISH_TIMEOUT_S = 1.0
LONGEST_REASON = 500
LARGEST_EXAMPLE_BYTES = 256 * 1024  # larger ones (images) are left out: they are for people only
LARGEST_SCHEMA_BYTES = 1 << 20


class Announcer:
    """Announces a worker and its target.

    Args:
        broker: The broker, and our identity there.
        host: The machine or pod that the worker runs on.
        queue_type: Type of the queue that keeps the cards.
        is_consuming: Whether the target's queues are consumed. If not, the worker does not announce
            that it serves.
        count_waiting: Counts the bundles in the target's queues.
        queue_lost_s: Returns how long ago one of them was deleted; None if never.
        instance_s: Returns the mean seconds per instance in a runner.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        host: str,
        queue_type: QueueType,
        is_consuming: Callable[[], bool],
        count_waiting: Callable[[], Awaitable[int | None]],
        queue_lost_s: Callable[[], float | None],
        instance_s: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._host = host
        self._queue_type: QueueType = queue_type
        self._is_consuming = is_consuming
        self._count_waiting = count_waiting
        self._queue_lost_s = queue_lost_s
        self._instance_s = instance_s
        self._news: Announcement | None = None
        self._card = bytearray()
        self._card_sent = ""  # its id, in this session
        self._is_leaving = self._is_keeping = False
        self._changed = asyncio.Event()
        self._session: Session | None = None
        self._supervisor = Supervisor(
            broker,
            role="announcer",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=PUBLISH_TIMEOUT_S,
            is_one_connection=True,
        )

    def announce(self, announcement: Announcement) -> None:
        """Announce this from now on."""
        self._news = announcement
        self._card = envelope.encode(_card_of(announcement))
        self._changed.set()

    def hurry(self) -> None:
        """Announce now, because ``is_consuming`` has become true."""
        self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._speak_on_and_on())

    async def say_goodbye(self) -> None:
        """Tell the gateways that this worker leaves."""
        self._is_leaving = True
        await self._speak(is_last=True)

    async def _speak_on_and_on(self) -> None:
        while not self._is_leaving:
            self._changed.clear()
            await self._speak(is_last=False)
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _speak(self, *, is_last: bool) -> None:
        session, news = self._session, self._news
        if session is None or news is None:
            return
        if news.state in SERVING and not self._is_consuming():
            return  # the queues are not consumed yet, or not at the moment
        queued = await self._count_waiting()
        if self._is_leaving and not is_last:
            return
        card = envelope.card_id(self._card)
        status = envelope.Status(
            worker=self._broker.owner,
            host=self._host,
            target=news.target,
            card=card,
            state=news.state,
            reason=news.reason[:LONGEST_REASON],
            runners=news.runners,
            runners_ready=news.runners_ready,
            queued=queued,
            instance_s=self._instance_s(),
            is_last=is_last,
            queue_lost_s=self._queue_lost_s(),
            release=self._broker.release,
            at=self._broker.wall_clock(),
        )
        try:
            if card != self._card_sent:
                await self._send_card(session, news)
            await publish_status(session.publishing, status)
        except BlockedError:
            return
        except LOST as error:
            session.lose(str(error))

    async def _send_card(self, session: Session, news: Announcement) -> None:
        self._card_sent = envelope.card_id(self._card)
        await publish_card(
            session.publishing, self._card, is_kept=news.scale_to_zero and bool(news.digest)
        )

    async def _on_open(self, session: Session) -> None:
        connection = session.consuming
        if self._news is not None and self._news.scale_to_zero and not self._is_keeping:
            self._is_keeping = True  # even if this fails: the next session does not try again
            await declare_kept_cards(connection, self._queue_type)
        queue = await declare_own_queue(connection, self._broker.new_name("hello"), [(HELLO, "")])
        await connection.consume(queue, self._on_hello, no_ack=True)
        self._session = session
        self._changed.set()

    def _on_lost(self) -> None:
        self._session = None
        self._card_sent = ""

    def _on_hello(self, message: Message) -> None:
        if message.properties.message_type != envelope.HELLO:
            return
        try:
            hello = envelope.decode_hello(message.body)
        except msgspec.MsgspecError:
            return
        if hello.cards_of and self._broker.owner not in hello.cards_of:
            return
        if hello.cards_of:
            self._card_sent = ""  # so it is sent again
        delay_s = 0.0 if hello.cards_of else self._broker.chance.uniform(0, SPREAD_S)
        asyncio.get_running_loop().call_later(delay_s, self._changed.set)


def _card_of(news: Announcement) -> envelope.Card:
    return envelope.Card(
        target=news.target,
        description=news.description,
        limits=news.limits,
        cache_ttl_s=news.cache_ttl_s,
        max_batch_size=news.max_batch_size,
        scale_to_zero=news.scale_to_zero,
        digest=news.digest,
        schema=news.schema and _bounded(news.schema),
        is_default=news.is_default,
        target_wait_s=news.target_wait_s,
        concurrency=news.concurrency,
        calls=news.calls,
        takes_errands=news.takes_errands,
    )


def _bounded(schema: Schema) -> Schema:
    """Leave out what is too large to send to every gateway; it is for people only."""
    return Schema(
        input=schema.input if len(schema.input) <= LARGEST_SCHEMA_BYTES else b"{}",
        output=schema.output if len(schema.output) <= LARGEST_SCHEMA_BYTES else b"{}",
        example=schema.example if len(schema.example) <= LARGEST_EXAMPLE_BYTES else b"null",
        tensors=schema.tensors if len(schema.tensors) <= LARGEST_SCHEMA_BYTES else b"",
        piece=schema.piece if len(schema.piece) <= LARGEST_SCHEMA_BYTES else b"{}",
    )


async def publish_status(connection: Connection, status: envelope.Status) -> None:
    """Publish a status to all gateways."""
    await connection.publish(
        envelope.encode(status),
        exchange=CATALOG,
        routing_key="",
        properties=Properties(
            message_type=envelope.STATUS, expiration=str(int(FORGET_AFTER_S * 1000))
        ),
        is_mandatory=False,
    )


async def publish_card(connection: Connection, card: bytes | bytearray, *, is_kept: bool) -> None:
    """Publish a card to all gateways, and if it is to be kept, to the broker's queue of cards."""
    await connection.publish(
        card,
        exchange=CARDS,
        routing_key=KEPT if is_kept else SENT,
        properties=Properties(message_type=envelope.CARD, correlation_id=KEPT if is_kept else None),
        is_mandatory=False,
        is_persistent=is_kept,
    )


async def publish_hello(connection: Connection, hello: envelope.Hello) -> None:
    """Publish a hello to all workers."""
    await connection.publish(
        envelope.encode(hello),
        exchange=HELLO,
        routing_key="",
        properties=Properties(
            message_type=envelope.HELLO, expiration=str(int(FORGET_AFTER_S * 1000))
        ),
        is_mandatory=False,
    )
