"""The worker's side: takes bundles from the queues of one target, answers them, then acks.

On the way of a request: the bundle arrives in ``_on_bundle``; each request goes to the pool's
``submit``; answers leave as they come, several in one message; the bundle is acked when the last of
them is confirmed. Should the worker die before, the broker gives the bundle to another.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import DeliveryError

from modelyard.core.batch import Priority
from modelyard.core.errors import DeadlineExceeded, Failure, Malformed, RequestError, ShuttingDown
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import REPLIES, QueueType, declare_request_queue

log = logging.getLogger(__name__)

PRIORITIES: tuple[Priority, ...] = ("high", "normal")
REPLY_TIMEOUT_S = 10.0

Submit = Callable[[Request], "asyncio.Future[bytes]"]


class ServerMetrics(Protocol):
    """What the server tells of its work."""

    def broker_event(self, event: str) -> None:
        """Count ``redelivered`` bundles, ``expired`` requests, ``orphan`` replies and the like."""
        ...


class AmqpServer:
    """Feeds one pool from the broker.

    Args:
        url: The broker's.
        name: This worker's.
        target: Whose queues are consumed.
        queue_type: Of those queues.
        prefetch: How many bundles may be here and not yet acked, per queue.
        submit: The pool's.
        metrics: Told of what happens.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        target: Target,
        queue_type: QueueType,
        prefetch: int,
        submit: Submit,
        metrics: ServerMetrics,
    ) -> None:
        self._target = target
        self._queue_type: QueueType = queue_type
        self._prefetch = prefetch
        self._submit = submit
        self._metrics = metrics
        self._session: Session | None = None
        self._consumers: list[tuple[AbstractQueue, str]] = []
        self._bundles: set[asyncio.Task[None]] = set()
        self._supervisor = Supervisor(
            url,
            name=f"modelyard worker {target} {name}",
            on_open=self._on_open,
            on_lost=self._on_lost,
        )

    @property
    def is_consuming(self) -> bool:
        """Whether the queues are consumed now."""
        return self._session is not None

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._supervisor.run()

    async def drain(self) -> None:
        """Take no more bundles, and finish those that are here."""
        for queue, tag in self._consumers:
            try:
                await queue.cancel(tag, timeout=1)
            except LOST:
                break
        self._consumers.clear()
        if self._bundles:
            await asyncio.wait(self._bundles)

    async def _on_open(self, session: Session) -> None:
        await session.consuming.set_qos(prefetch_count=self._prefetch)
        self._session = session
        for priority in PRIORITIES:
            queue = await declare_request_queue(
                session.consuming, self._target, priority, self._queue_type
            )
            handler = partial(self._on_bundle, session, priority)
            self._consumers.append((queue, await queue.consume(handler)))

    def _on_lost(self) -> None:
        self._session = None
        self._consumers.clear()

    async def _on_bundle(
        self, session: Session, priority: Priority, message: AbstractIncomingMessage
    ) -> None:
        """Start on a bundle; the client library must not wait for it."""
        task = asyncio.create_task(self._serve(session, priority, message))
        self._bundles.add(task)
        task.add_done_callback(self._bundles.discard)

    async def _serve(
        self, session: Session, priority: Priority, message: AbstractIncomingMessage
    ) -> None:
        """Answer a bundle and settle its delivery: the one place where that is done."""
        if message.redelivered:
            self._metrics.broker_event("redelivered")
        try:
            if message.type == envelope.BUNDLE:
                items = envelope.decode_bundle(message.body)
                await self._answer(session, priority, message, items)
            else:
                problem = f"this worker cannot read {message.type!r}; release it again"
                await self._refuse(session, message, Malformed(problem))
        except msgspec.MsgspecError as error:
            await self._refuse(session, message, Malformed(f"the bundle is damaged: {error}"))
        except LOST:
            session.lost.set()  # not acked: the broker gives it to someone else
            return
        try:
            await message.ack()
        except LOST:
            session.lost.set()

    async def _answer(
        self,
        session: Session,
        priority: Priority,
        message: AbstractIncomingMessage,
        items: list[envelope.Item],
    ) -> None:
        futures = {self._start(item, priority): item.key for item in items}
        waiting = set(futures)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answers = [envelope.Answer(futures[future], _outcome(future)) for future in done]
            if any(_is_shutting_down(answer) for answer in answers):
                raise ConnectionError("the pool stopped before the bundle was done")
            await self._reply(session, message, envelope.ANSWERS, envelope.encode(answers))

    def _start(self, item: envelope.Item, priority: Priority) -> asyncio.Future[bytes]:
        deadline = envelope.from_wall(item.deadline)
        if deadline > time.monotonic():
            return self._submit(Request(item.id, self._target, item.input, deadline, priority))
        self._metrics.broker_event("expired")
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_exception(DeadlineExceeded("the deadline passed while the request was queued"))
        return future

    async def _refuse(
        self, session: Session, message: AbstractIncomingMessage, error: RequestError
    ) -> None:
        log.error("bundle_refused", extra={"type": message.type, "why": error.detail})
        self._metrics.broker_event("refused")
        body = envelope.encode(error.to_failure())
        await self._reply(session, message, envelope.REFUSAL, body)

    async def _reply(
        self, session: Session, message: AbstractIncomingMessage, kind: str, body: bytes
    ) -> None:
        """Send answers and see them confirmed. A gateway that is gone needs none."""
        if not message.reply_to:
            self._metrics.broker_event("orphan")
            return
        reply = Message(
            body,
            type=kind,
            correlation_id=message.correlation_id,
            message_id=secrets.token_hex(8),
        )
        try:
            exchange = session.exchanges[REPLIES]
            await exchange.publish(reply, message.reply_to, timeout=REPLY_TIMEOUT_S)
        except DeliveryError:
            self._metrics.broker_event("orphan")


def _outcome(future: asyncio.Future[bytes]) -> bytes | Failure:
    error = future.exception()
    if error is None:
        return future.result()
    return error.to_failure() if isinstance(error, RequestError) else _bug(error)


def _bug(error: BaseException) -> Failure:
    log.error("unexpected_error", exc_info=error)
    return RequestError("something went wrong at the worker").to_failure()


def _is_shutting_down(answer: envelope.Answer) -> bool:
    return isinstance(answer.outcome, Failure) and answer.outcome.code == ShuttingDown.code
