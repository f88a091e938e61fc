"""The worker's side: takes bundles from the queues of one target, and sees each request answered.

On the way of a request: the bundle arrives in ``_on_bundle``; each request goes to the pool's
``submit``; its outcome goes to ``replies.py``, which also acks the bundle. Should the worker die
before, the broker gives the bundle to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec
from pamqp import commands

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import (
    DeadlineExceeded,
    GivenUp,
    Malformed,
    ModelNotReady,
    RequestError,
    ShuttingDown,
    Unavailable,
)
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.connection import Delivered
from modelyard.transports.amqp.metrics import BrokerMetrics
from modelyard.transports.amqp.replies import REPLY_TIMEOUT_S, Delivery, Replies
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import QueueType, count_waiting, declare_request_queue

log = logging.getLogger(__name__)

PRIORITIES: tuple[Priority, ...] = ("high", "normal")
# Long, for what runs here is then lost; but a worker that is silent for FORGET_AFTER_S is gone.
COUNT_TIMEOUT_S = 3.0
COUNT_EVERY_S = 0.1
QUEUE_LINGER_S = 1.0
MOST_COUNTS = 50


class Submit(Protocol):
    """The pool's way in."""

    def __call__(self, call: Call, *, is_suspect: bool = False) -> None:
        """Let a call wait for a runner; ``is_suspect``: it must run alone."""
        ...


class AmqpServer:
    """Feeds one pool from the broker.

    Args:
        addresses: The broker's.
        name: This worker's.
        target: Whose queues are consumed.
        queue_type: Of those queues.
        prefetch: Gives how many bundles may be here and not yet acked, per queue.
        submit: The pool's.
        digest: Gives that of the model folder, once it is loaded.
        on_consuming: Told whenever its queues are consumed again.
        metrics: Told of what happens.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        name: str,
        target: Target,
        queue_type: QueueType,
        prefetch: Callable[[], int],
        submit: Submit,
        digest: Callable[[], str],
        on_consuming: Callable[[], None],
        metrics: BrokerMetrics,
    ) -> None:
        self._target = target
        self._queue_type: QueueType = queue_type
        self._prefetch = prefetch
        self._submit = submit
        self._digest = digest
        self._on_consuming = on_consuming
        self._metrics = metrics
        self._session: Session | None = None
        self._replies: Replies | None = None
        self._queue_lost_at: float | None = None
        self._consumers: list[str] = []
        self._supervisor = Supervisor(
            addresses,
            name=f"modelyard worker {target} {name}",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=REPLY_TIMEOUT_S,
        )

    @property
    def is_consuming(self) -> bool:
        """Whether the queues are consumed now."""
        return self._session is not None

    @property
    def queue_lost_s(self) -> float | None:
        """How long ago a queue was last deleted under us; None: never."""
        return None if self._queue_lost_at is None else time.monotonic() - self._queue_lost_at

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._supervisor.run()

    async def drain(self) -> None:
        """Take no more bundles, and finish those that are here."""
        session = self._session
        if session is not None:
            with contextlib.suppress(*LOST):
                for tag in self._consumers:
                    await session.consuming.cancel(tag)
        self._consumers.clear()
        if self._replies is not None:
            await self._replies.all_acked()

    async def linger(self) -> None:
        """Take what gateways have sent that do not know yet that the last worker leaves."""
        counts = await self._count()
        if not counts or max(consumers for _, consumers in counts) > 1:
            return
        await asyncio.sleep(QUEUE_LINGER_S)
        for _ in range(MOST_COUNTS):
            if not await self.count_waiting():
                break
            await asyncio.sleep(COUNT_EVERY_S)

    async def count_waiting(self) -> int | None:
        """Count the bundles that wait in the queues; None if the broker does not tell."""
        counts = await self._count()
        return sum(messages for messages, _ in counts) if counts else None

    async def _count(self) -> list[tuple[int, int]]:
        """Count the messages and the consumers of each queue; none if the broker does not tell."""
        session = self._session
        if session is None:
            return []
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                return [
                    await count_waiting(session.consuming, self._target, priority)
                    for priority in PRIORITIES
                ]
        except LOST as error:  # as when a queue was deleted: set all up anew
            session.lose(str(error))
            return []

    async def _on_open(self, session: Session) -> None:
        await session.consuming.call(commands.Basic.Qos(prefetch_count=self._prefetch()))
        self._replies = Replies(session, self._metrics, digest=self._digest())
        for priority in PRIORITIES:
            queue = await declare_request_queue(
                session.consuming, self._target, priority, self._queue_type
            )
            handler = partial(self._on_bundle, self._replies, queue, priority)
            self._consumers.append(await session.consuming.consume(queue, handler))
        self._session = session  # from here on: who counts asks for queues that are there
        self._on_consuming()

    def _on_lost(self) -> None:
        if self._session is not None and self._session.consuming.is_cancelled:
            self._queue_lost_at = time.monotonic()
        self._session = None
        self._consumers.clear()
        if self._replies is not None:
            self._replies.abandon()

    def _on_bundle(
        self, replies: Replies, queue: str, priority: Priority, message: Delivered
    ) -> None:
        """Start on a bundle."""
        if replies.is_abandoned:
            return  # the session is lost, and its connections not closed yet
        delivery = Delivery(message)
        replies.open.add(delivery)
        if message.is_redelivered:
            self._metrics.broker_event("redelivered")
        kind, meant = message.properties.message_type, message.properties.app_id
        if kind != envelope.BUNDLE:
            problem = f"this worker cannot read {kind!r}; release it again"
            self._refuse(replies, delivery, Unavailable(problem))
            return
        if meant is not None and meant != queue:  # damaged on its way: another queue's, perhaps
            self._refuse(replies, delivery, Unavailable(f"this bundle is for {meant}"))
            return
        try:
            items = envelope.decode_bundle(message.body)
        except msgspec.MsgspecError as error:
            self._refuse(replies, delivery, Unavailable(f"the bundle cannot be read: {error}"))
            return
        if not items:
            self._refuse(replies, delivery, Malformed("the bundle is empty"))
            return
        delivery.unconfirmed = len(items)
        now, offset = time.monotonic(), envelope.wall_offset()
        for item in items:
            deadline = item.deadline - offset
            request = Request(item.id, self._target, item.input, deadline, priority, item.form)
            call = Call(request, partial(_on_outcome, replies, delivery, item.key))
            delivery.calls.append(call)
            if deadline > now:
                # What was delivered before may have ended the worker that had it: it runs alone.
                self._submit(call, is_suspect=message.is_redelivered)
            else:
                self._metrics.broker_event("expired")
                call.settle(DeadlineExceeded("the deadline passed while the request was queued"))

    def _refuse(self, replies: Replies, delivery: Delivery, error: RequestError) -> None:
        log.warning("bundle_refused", extra={"why": error.detail})
        self._metrics.broker_event("refused")
        replies.refuse(delivery, error.to_failure())


def _on_outcome(replies: Replies, delivery: Delivery, key: int, call: Call) -> None:
    outcome = call.outcome
    if isinstance(outcome, (ShuttingDown, ModelNotReady, GivenUp)):
        return  # it stays unacked: at the end of the session, which is near, another worker gets it
    assert outcome is not None
    told = outcome.to_failure() if isinstance(outcome, RequestError) else outcome
    replies.add(delivery, envelope.Answer(key, told))
