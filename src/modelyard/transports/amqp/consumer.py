"""The worker's side: takes bundles from the queues of one target, and has each request answered.

Path of a request: a bundle arrives in ``_on_bundle``; each of its requests goes to the pool's
``submit``; the outcomes go to ``replies.py``, which also acks the bundle. If the worker dies before
that, the broker redelivers the bundle to another worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
from pamqp import commands

from modelyard.core.batch import Priority
from modelyard.core.call import Call, ErrandCall
from modelyard.core.errors import (
    DeadlineExceeded,
    GivenUp,
    Malformed,
    ModelNotReady,
    RequestError,
    ShuttingDown,
    Unavailable,
)
from modelyard.core.messages import Progress, Request
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.departures import Departures
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.pieces import PieceSender
from modelyard.transports.amqp.replies import REPLY_TIMEOUT_S, Delivery, Left, Replies
from modelyard.transports.amqp.session import LOST, Broker, Session, Supervisor
from modelyard.transports.amqp.topology import (
    QueueType,
    count_waiting,
    declare_request_queue,
)

log = logging.getLogger(__name__)

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
# Generous, since a timeout ends the session; but a worker silent for FORGET_AFTER_S is forgotten.
COUNT_TIMEOUT_S = 3.0
COUNT_EVERY_S = 0.1
QUEUE_LINGER_S = 1.0
MOST_COUNTS = 50
STALLED_S = 4.0


class Submit(Protocol):
    """The pool's way in."""

    def __call__(self, call: Call, *, is_suspect: bool = False) -> None:
        """Queue a call for a runner; ``is_suspect``: it must run alone."""
        ...


class AmqpConsumer:
    """Feeds one pool from the broker.

    Args:
        broker: The broker, and our identity there.
        target: The target whose queues are consumed.
        queue_type: Type of those queues.
        prefetch: Returns the limit of unacked bundles per queue.
        submit: The pool's ``submit``.
        digest: Returns the digest of the model folder, once the model is loaded.
        on_consuming: Called whenever consuming starts, or starts again.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        target: Target,
        queue_type: QueueType,
        prefetch: Callable[[], int],
        submit: Submit,
        digest: Callable[[], str],
        on_consuming: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._target = target
        self._queue_type: QueueType = queue_type
        self._prefetch = prefetch
        self._submit = submit
        self._digest = digest
        self._on_consuming = on_consuming
        self._metrics = broker.metrics
        self._session: Session | None = None
        self._replies: Replies | None = None
        self._is_queue_lost = False
        self._queue_lost_at: float | None = None
        self._consumers: list[str] = []
        self._stalled_since: float | None = None
        self._departures = Departures(broker, target)
        # Queues whose head may hold bundles that came back because sessions were lost, including
        # ours. These must not be suspected of having crashed a worker.
        self._excused: set[str] = set()
        self._supervisor = Supervisor(
            broker,
            role=f"worker {target}",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=REPLY_TIMEOUT_S,
        )

    @property
    def is_consuming(self) -> bool:
        """Whether the queues are currently consumed."""
        return self._session is not None

    @property
    def queue_lost_s(self) -> float | None:
        """Seconds since a queue of the target was last deleted while consumed; None if never."""
        lost_at = self._queue_lost_at
        return None if lost_at is None else self._broker.clock() - lost_at

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._supervisor.run()

    async def drain(self) -> None:
        """Take no more bundles, and finish the ones that are here."""
        session = self._session
        if session is not None:
            with contextlib.suppress(*LOST):
                for tag in self._consumers:
                    await session.consuming.cancel(tag)
        self._consumers.clear()
        if self._replies is not None:
            await self._replies.all_acked()

    def tell_progress(self, calls: list[Call], progress: Progress) -> None:
        """Tell gateways how far the model is with some calls, of jobs: they have low priority."""
        jobs = [call for call in calls if call.priority == "low"]
        if jobs and self._replies is not None and not self._replies.is_abandoned:
            self._replies.tell_progress(jobs, progress)

    async def linger(self) -> None:
        """Keep consuming for a moment: some gateways do not know yet that this worker leaves."""
        counts = await self._count()
        if not counts or max(consumers for _, consumers in counts) > 1:
            return
        await asyncio.sleep(QUEUE_LINGER_S)
        for _ in range(MOST_COUNTS):
            if not await self.count_waiting():
                break
            await asyncio.sleep(COUNT_EVERY_S)

    async def count_waiting(self) -> int | None:
        """Count the bundles that wait in the queues; None if the broker does not answer."""
        counts = await self._count()
        if not counts:
            return None
        waiting = sum(messages for messages, _ in counts)
        self._see_that_they_come(waiting)
        return waiting

    def _see_that_they_come(self, waiting: int) -> None:
        """End a session in which bundles wait, none is here, and none has come for a while. Then
        the broker takes those for delivered that never arrived, and the prefetch is used up.
        """
        if not (waiting and self._session and self._consumers and self._replies) or (
            self._replies.open
        ):
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = self._broker.clock()
        elif self._broker.clock() - self._stalled_since > STALLED_S:
            self._session.lose("bundles wait, and the broker delivers none")

    async def _count(self) -> list[tuple[int, int]]:
        """Count the messages and consumers of each queue; empty if the broker does not answer."""
        session = self._session
        if session is None:
            return []
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                return [
                    await count_waiting(session.consuming, self._target, priority)
                    for priority in PRIORITIES
                ]
        except LOST as error:  # for example a queue was deleted: start a new session
            session.lose(str(error))
            return []

    async def _on_open(self, session: Session) -> None:
        await session.consuming.call(commands.Basic.Qos(prefetch_count=self._prefetch()))
        is_renewed = self._replies is not None
        self._replies = replies = Replies(session, self._metrics, digest=self._digest())
        pieces = await self._departures.open(session, replies)
        for priority in PRIORITIES:
            queue = await declare_request_queue(
                session.consuming, self._target, priority, self._queue_type
            )
            if is_renewed:
                self._excused.add(queue)
            handler = partial(self._on_bundle, self._replies, pieces, queue, priority)
            self._consumers.append(await session.consuming.consume(queue, handler))
        if self._is_queue_lost:  # what left before now may be lost, also if another one went since
            self._is_queue_lost = False
            self._queue_lost_at = self._broker.clock()
        self._session = session  # only now: count_waiting fails on queues that are not declared yet
        self._on_consuming()

    def _on_lost(self) -> None:
        if self._session is not None and self._session.consuming.is_cancelled:
            self._is_queue_lost = True
        self._session = self._stalled_since = None
        self._consumers.clear()
        if self._replies is not None:
            self._replies.abandon()

    def _on_bundle(
        self,
        replies: Replies,
        pieces: PieceSender,
        queue: str,
        priority: Priority,
        message: Message,
    ) -> None:
        """Submit the requests of a bundle."""
        if replies.is_abandoned:
            return  # the session is lost, but its connections are not closed yet
        delivery = Delivery(message)
        replies.open.add(delivery)
        self._stalled_since = None
        is_suspect = self._is_suspect(queue, message)
        try:
            items = self._read(queue, message)
        except RequestError as error:
            log.warning("bundle_refused", extra={"why": error.detail})
            self._metrics.broker_event("refused")
            replies.refuse(delivery, error.to_failure())
            return
        delivery.unconfirmed = len(items)
        is_stream = message.properties.message_type == envelope.STREAM
        now, offset = self._broker.clock(), self._broker.wall_offset()
        for item in items:
            deadline = item.deadline - offset
            trail = item.trail
            if trail is not None and message.is_redelivered:
                trail = msgspec.structs.replace(trail, attempt=2)
            request = Request(
                *(item.id, self._target, item.input, deadline, priority, item.form), trail=trail
            )
            if is_stream:
                call: Call = pieces.make_call(delivery, item, request)
            elif trail is None or trail.errand is None:
                call = Call(request, partial(_on_outcome, replies, delivery, item.key))
            else:
                call = ErrandCall(request, partial(_on_outcome, replies, delivery, item.key))
            delivery.calls[item.key] = call
        self._departures.drop(delivery)
        for call in list(delivery.calls.values()):
            if call.is_settled:
                continue  # an earlier one was refused, so the bundle goes to another worker
            if call.deadline > now:
                self._submit(call, is_suspect=is_suspect)
            else:
                self._metrics.broker_event("expired")
                call.settle(DeadlineExceeded("the deadline passed while the request was queued"))

    def _read(self, queue: str, message: Message) -> list[envelope.Item]:
        """Return the requests in a bundle.

        Raises:
            Unavailable: It is corrupt, or of another protocol version; the gateway may retry.
            Malformed: It is empty.
        """
        kind, meant = message.properties.message_type, message.properties.app_id
        if kind not in (envelope.BUNDLE, envelope.STREAM):
            raise Unavailable(f"this worker cannot read {kind!r}; upgrade it")
        if meant is not None and meant != queue:  # corrupt: it belongs to another queue
            raise Unavailable(f"this bundle is for {meant}")
        try:
            items = envelope.decode_bundle(message.body)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the bundle cannot be read: {error}") from None
        if not items:
            raise Malformed("the bundle is empty")
        return items

    def _is_suspect(self, queue: str, message: Message) -> bool:
        """Return whether a bundle may have crashed the worker that had it before. The requests of
        such a bundle run alone.

        After a new session, redelivered bundles are not suspect until the first new bundle: bundles
        that were returned to the queue are at its head.
        """
        if not message.is_redelivered:
            self._excused.discard(queue)  # returned bundles come before new ones
            return False
        self._metrics.broker_event("redelivered")
        return queue not in self._excused


def _on_outcome(replies: Replies, delivery: Delivery, key: int, call: Call) -> None:
    outcome = call.outcome
    if isinstance(outcome, GivenUp):
        if isinstance(outcome, Left):
            replies.answered({delivery: 1})
        return  # else the broker redelivers the bundle
    if isinstance(outcome, ShuttingDown | ModelNotReady):
        replies.give_back(delivery)
        return
    assert outcome is not None
    told: envelope.Said  # which is the object if the outcome is empty
    told = (
        outcome.to_failure() if isinstance(outcome, RequestError) else outcome or call.object or b""
    )
    replies.add(delivery, envelope.Answer(key, told, call.instances, call.instance_s))
