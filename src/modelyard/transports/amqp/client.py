"""The gateway's side: requests leave in bundles, and each is kept until it is answered.

On the way of a request: dispatch calls ``send``; the request waits in the lane of its target until
the lane flushes; ``server.py`` takes the bundle from the queue; the answers come back to
``_on_reply``. If the session is lost on the way, all that is unanswered is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count

import msgspec
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError
from pamqp import commands

from modelyard.core.batch import Priority
from modelyard.core.errors import (
    Failure,
    ModelNotReady,
    Overloaded,
    RequestError,
    Unavailable,
    from_failure,
)
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.metrics import BrokerMetrics
from modelyard.transports.amqp.session import LOST, Session, Supervisor
from modelyard.transports.amqp.topology import REPLIES, REQUESTS, declare_own_queue, queue_name

log = logging.getLogger(__name__)

WINDOW = 3  # bundles under way for one lane while it flushes at once
FILL_S = 0.005  # over the window a request waits at most this long for its bundle to fill
LARGEST_BUNDLE_BYTES = 1 << 20
PUBLISH_TIMEOUT_S = 1.0
PING_EVERY_S = 2.0
PING_TIMEOUT_S = 4.0

Future = asyncio.Future[bytes]


class Pending:
    """A request that is not answered yet."""

    __slots__ = ("bundle", "future", "key", "request")

    def __init__(self, key: int, request: Request, future: Future) -> None:
        self.key = key
        self.request = request
        self.future = future
        self.bundle: Bundle | None = None


class Bundle:
    """One message's requests, as long as one of them is unanswered."""

    __slots__ = ("id", "lane", "left")

    def __init__(self, lane: Lane, left: set[int]) -> None:
        self.id = secrets.token_hex(8)
        self.lane = lane
        self.left = left


class Lane:
    """What waits for one queue."""

    def __init__(self, target: Target, priority: Priority) -> None:
        self.target = target
        self.priority = priority
        self.waiting: deque[Pending] = deque()
        self.outstanding = 0
        self.flush_at: asyncio.Handle | None = None


class AmqpTransport:
    """Carries requests through the broker.

    Args:
        url: The broker's.
        name: This gateway's, for the names of its queues and connections.
        metrics: Told of what happens.
        bundle_size: Gives how many requests a target's bundle may hold: what one of its batches
            takes, so that a bundle never holds what another worker could be running.
        on_unroutable: Told of a target that has no queue.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        metrics: BrokerMetrics,
        bundle_size: Callable[[Target], int],
        on_unroutable: Callable[[Target], None],
    ) -> None:
        self._name = name
        self._metrics = metrics
        self._bundle_size = bundle_size
        self._on_unroutable = on_unroutable
        self._keys = count(1)
        self._pending: dict[int, Pending] = {}
        self._lanes: dict[tuple[Target, Priority], Lane] = {}
        self._bundles: dict[str, Bundle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: Session | None = None
        self._reply_to = ""
        self._ponged = 0.0
        self._supervisor = Supervisor(
            url, name=f"modelyard gateway {name}", on_open=self._on_open, on_lost=self._on_lost
        )

    @property
    def is_connected(self) -> bool:
        """Whether there is a session with the broker."""
        return self._session is not None

    @property
    def pending(self) -> int:
        """How many requests are not answered yet."""
        return len(self._pending)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._ping_on_and_on())

    def send(self, request: Request) -> Future:
        """Carry a request; see ``dispatch.Transport``."""
        loop = asyncio.get_running_loop()
        future: Future = loop.create_future()
        pending = Pending(next(self._keys), request, future)
        self._pending[pending.key] = pending
        future.add_done_callback(partial(self._settle, pending))
        where = (request.target, request.priority)
        lane = self._lanes.get(where)
        if lane is None:
            lane = self._lanes[where] = Lane(*where)
        lane.waiting.append(pending)
        self._schedule(lane)
        return future

    def _settle(self, pending: Pending, _: Future) -> None:
        """Forget a request that is answered, cancelled or late."""
        self._pending.pop(pending.key, None)
        bundle = pending.bundle
        if bundle is not None:
            bundle.left.discard(pending.key)
            if not bundle.left:
                self._close(bundle)

    def _close(self, bundle: Bundle) -> None:
        if self._bundles.pop(bundle.id, None) is not None:
            bundle.lane.outstanding -= 1
            self._schedule(bundle.lane)

    # Out.

    def _schedule(self, lane: Lane) -> None:
        """Flush at the end of this turn of the loop, or a little later if enough is under way."""
        if not lane.waiting or self._session is None:
            return
        loop = asyncio.get_running_loop()
        is_urgent = lane.outstanding < WINDOW or len(lane.waiting) >= self._bundle_size(lane.target)
        if is_urgent:
            if isinstance(lane.flush_at, asyncio.TimerHandle):
                lane.flush_at.cancel()
                lane.flush_at = None
            if lane.flush_at is None:
                lane.flush_at = loop.call_soon(self._flush, lane)
        elif lane.flush_at is None:
            lane.flush_at = loop.call_later(FILL_S, self._flush, lane)

    def _flush(self, lane: Lane) -> None:
        lane.flush_at = None
        session = self._session
        if session is None:
            return
        size, used = self._bundle_size(lane.target), 0
        chosen: list[Pending] = []
        while lane.waiting and len(chosen) < size and used < LARGEST_BUNDLE_BYTES:
            pending = lane.waiting.popleft()
            if not pending.future.done():
                chosen.append(pending)
                used += len(pending.request.input)
        if chosen:
            bundle = Bundle(lane, {pending.key for pending in chosen})
            self._bundles[bundle.id] = bundle
            lane.outstanding += 1
            for pending in chosen:
                pending.bundle = bundle
            task = asyncio.create_task(self._publish(session, bundle, chosen))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._schedule(lane)

    async def _publish(self, session: Session, bundle: Bundle, chosen: list[Pending]) -> None:
        """Send a bundle and see it confirmed; what cannot be sent fails, or waits for a session."""
        last = max(pending.request.deadline for pending in chosen)
        left_s = max(last - time.monotonic(), 0.001)
        message = Message(
            envelope.encode([_to_item(pending) for pending in chosen]),
            type=envelope.BUNDLE,
            correlation_id=bundle.id,
            message_id=secrets.token_hex(8),
            reply_to=self._reply_to,
            expiration=left_s,
            headers={"x-deadline": envelope.to_wall(last)},
        )
        name = queue_name(bundle.lane.target, bundle.lane.priority)
        try:
            exchange = session.exchanges[REQUESTS]
            await exchange.publish(message, name, mandatory=True, timeout=PUBLISH_TIMEOUT_S)
        except DeliveryError as error:
            self._fail(chosen, self._why_refused(bundle.lane.target, error))
        except TimeoutError:
            # It may yet be delivered; the deadline in it keeps it from being run for nobody.
            self._metrics.broker_event("publish_timeout")
            self._fail(chosen, Unavailable("the broker takes no messages now"))
        except LOST:
            session.lost.set()  # and _on_lost sends all that is unanswered again

    def _why_refused(self, target: Target, error: DeliveryError) -> RequestError:
        if isinstance(error.frame, commands.Basic.Nack):
            self._metrics.broker_event("nacked")
            return Overloaded(f"the queue of {target} is full")
        self._metrics.broker_event("returned")
        self._on_unroutable(target)
        return ModelNotReady(f"{target} has no queue: no worker has been up")

    def _fail(self, chosen: list[Pending], error: RequestError) -> None:
        for pending in chosen:
            if not pending.future.done():
                pending.future.set_exception(error)

    # Back.

    async def _on_open(self, session: Session) -> None:
        queue = await declare_own_queue(session.consuming, REPLIES, self._name)
        await queue.consume(self._on_reply, no_ack=True)
        self._reply_to, self._ponged = queue.name, time.monotonic()
        self._session = session
        for lane in self._lanes.values():
            self._schedule(lane)

    def _on_lost(self) -> None:
        """Put all that was sent and is not answered back to where it waits."""
        if self._session is None:
            return
        self._session = None
        self._bundles.clear()
        for lane in self._lanes.values():
            lane.outstanding = 0
            if lane.flush_at is not None:
                lane.flush_at.cancel()
                lane.flush_at = None
        for pending in sorted(self._pending.values(), key=lambda p: p.key, reverse=True):
            if pending.bundle is not None:
                pending.bundle.lane.waiting.appendleft(pending)
                pending.bundle = None
                self._metrics.broker_event("resent")

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        try:
            if message.type == envelope.ANSWERS:
                for answer in envelope.decode_answers(message.body):
                    self._answer(answer)
            elif message.type == envelope.REFUSAL:
                self._refuse(message.correlation_id or "", envelope.decode_refusal(message.body))
            elif message.type == envelope.PING:
                self._ponged = time.monotonic()
            else:
                self._metrics.broker_event("orphan")
        except msgspec.MsgspecError:
            self._metrics.broker_event("orphan")

    def _answer(self, answer: envelope.Answer) -> None:
        pending = self._pending.get(answer.key)
        if pending is None or pending.future.done():
            self._metrics.broker_event("late")
        elif isinstance(answer.outcome, Failure):
            pending.future.set_exception(from_failure(answer.outcome))
        else:
            pending.future.set_result(answer.outcome)

    def _refuse(self, bundle_id: str, failure: Failure) -> None:
        bundle = self._bundles.get(bundle_id)
        if bundle is None:
            self._metrics.broker_event("late")
            return
        self._fail([self._pending[key] for key in list(bundle.left)], from_failure(failure))

    async def _ping_on_and_on(self) -> None:
        """Send messages to ourselves: a broker that hangs, or a reply queue that is gone, shows."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            session = self._session
            if session is None:
                continue
            if time.monotonic() - self._ponged > PING_TIMEOUT_S:
                log.warning("broker_silent")
                session.lost.set()
                continue
            message = Message(b"", type=envelope.PING, message_id=secrets.token_hex(8))
            try:
                exchange = session.exchanges[REPLIES]
                await exchange.publish(message, self._reply_to, timeout=PUBLISH_TIMEOUT_S)
            except TimeoutError:
                continue  # an alarm, or a broker that hangs: the pong will tell
            except LOST:
                session.lost.set()


def _to_item(pending: Pending) -> envelope.Item:
    request = pending.request
    return envelope.Item(pending.key, request.id, request.input, envelope.to_wall(request.deadline))
