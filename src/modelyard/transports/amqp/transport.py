"""The gateway's side: requests leave in bundles, and each is kept until it is answered.

Path of a request: dispatch calls ``send``; the request waits in its lane (``lanes.py``) until
``_depart`` publishes its bundle; ``consumer.py`` takes that from the queue; the answers come back
to ``_on_reply``. If the session is lost, all unanswered requests are sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import Failure, GivenUp, TooLarge, Unavailable, from_failure
from modelyard.core.names import Target
from modelyard.dispatch.interfaces import OnProgress, tell_nobody
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.confirms import ConnectionLostError, ReturnedError
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.lanes import Bundle, Capacity, Lane, Pending
from modelyard.transports.amqp.notices import Notices
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.refusals import why_refused
from modelyard.transports.amqp.repair import Repair
from modelyard.transports.amqp.selfping import SelfPing
from modelyard.transports.amqp.session import Broker, Session, Supervisor
from modelyard.transports.amqp.streams import IncomingStreams, give_up, is_begun
from modelyard.transports.amqp.topology import REPLIES, REQUESTS, declare_own_queue

log = logging.getLogger(__name__)

PUBLISH_TIMEOUT_S = 1.0
# RabbitMQ 4 closes the channel on a message of more than 16 MiB, which loses all that is in flight.
# A bundle may hold another MiB.
LARGEST_INPUT_BYTES = 14 << 20


class AmqpTransport:
    """Carries requests through the broker.

    Args:
        broker: The broker, and our identity there.
        capacity: Returns the current capacity of a target's workers.
        on_unroutable: Called with a target that has no queue.
        on_progress: Told how far models are.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        capacity: Callable[[Target], Capacity],
        on_unroutable: Callable[[Target], None],
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._broker = broker
        self._metrics = broker.metrics
        self._capacity = capacity
        self._on_unroutable = on_unroutable
        self._pending: dict[int, Pending] = {}
        self._bundles: dict[str, Bundle] = {}
        self._lanes: dict[tuple[Target, Priority], Lane] = {}
        self._session: Session | None = None
        self._reply_to = ""
        self._notices = Notices()
        self._streams = IncomingStreams(self._pending, self._notices, on_progress)
        self._ping = SelfPing(broker.clock, on_blocked=self._give_up_sent)
        self._repair = Repair(broker.clock, resend=partial(self._resend, None))
        self._supervisor = Supervisor(
            broker,
            role="gateway",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=PUBLISH_TIMEOUT_S,
        )

    @property
    def is_connected(self) -> bool:
        """Whether there is a session with the broker."""
        return self._session is not None

    @property
    def is_open(self) -> bool:
        """Whether requests and answers currently get through, as far as is known."""
        return self.is_connected and not self.is_blocked and self._ping.is_heard

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has an alarm, and so accepts no messages."""
        return self._session is not None and self._session.publishing.is_blocked

    @property
    def pending(self) -> int:
        """Number of unanswered requests."""
        return len(self._pending)

    def in_flight(self) -> dict[Target, int]:
        """Return how many instances of each target, sent from here, wait or run. A request of more
        instances than a batch takes counts as one batch.
        """
        counts: Counter[Target] = Counter()
        for pending in list(self._pending.values()):  # metrics are rendered in a thread
            counts[pending.lane.target] += pending.lane.weigh(pending)
        return counts

    def asked(self, target: Target) -> tuple[int, int]:
        """Return the number of instances of a target sent from here so far, and of requests."""
        lanes = [lane for lane in list(self._lanes.values()) if lane.target == target]
        return sum(lane.asked for lane in lanes), sum(lane.requests for lane in lanes)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._ping.run())

    def send(self, call: Call) -> None:
        """Deliver a call; see ``dispatch.Transport``."""
        if len(call.request.input) > LARGEST_INPUT_BYTES:
            call.settle(
                TooLarge(f"the input is over the broker's limit of {LARGEST_INPUT_BYTES} bytes")
            )
            return
        lane = self._lane(call.request.target, call.request.priority)
        pending = Pending(next(lane.keys), call, lane)
        self._pending[pending.key] = pending
        call.watch(partial(self._forget, pending))
        lane.enter(pending)

    def forget(self, target: Target) -> None:
        """Forget a target that is gone, once its requests in flight are answered."""
        for place, lane in list(self._lanes.items()):
            if lane.target == target and lane.is_empty:
                del self._lanes[place]

    def resend(self, target: Target, *, departed_before: float) -> None:
        """Resend requests that left before a point in time: the target's queue was deleted."""
        self._resend(target, departed_before)

    def _lane(self, target: Target, priority: Priority) -> Lane:
        lane = self._lanes.get((target, priority))
        if lane is None:
            lane = Lane(
                target,
                priority,
                capacity=self._capacity,
                depart=self._depart,
                clock=self._broker.clock,
                first_key=self._broker.chance.getrandbits(62),
            )
            self._lanes[target, priority] = lane
            if self._session is not None:
                lane.open()
        return lane

    def _forget(self, pending: Pending, call: Call) -> None:
        """Drop a settled request."""
        del self._pending[pending.key]
        if pending.bundle is None:
            pending.lane.remove(pending)
            self._streams.drop(pending)
        else:
            self._take_out(pending.bundle, pending)
            if isinstance(call.outcome, GivenUp) or call.stream is not None:
                self._streams.left(pending)

    def _take_out(self, bundle: Bundle, pending: Pending) -> None:
        del bundle.requests[pending.key]
        if not bundle.requests:
            del self._bundles[bundle.id]
        bundle.lane.release(bundle)

    # Sending.

    def _depart(self, bundle: Bundle) -> None:
        """Publish a bundle."""
        session = self._session
        assert session is not None  # lanes are open only during a session
        self._bundles[bundle.id] = bundle
        offset = self._broker.wall_offset()
        items = [pending.to_item(offset) for pending in bundle.requests.values()]
        last = max(item.deadline for item in items)
        left_s = max(last - self._broker.wall_clock(), 0.001)
        is_stream = next(iter(bundle.requests.values())).call.stream is not None
        confirmed = session.publishing.publish(
            envelope.encode(items),
            exchange=REQUESTS,
            routing_key=bundle.lane.queue,
            properties=Properties(
                message_type=envelope.BUNDLE if not is_stream else envelope.STREAM,
                correlation_id=bundle.id,
                reply_to=self._reply_to,
                app_id=bundle.lane.queue,
                # The broker drops expired bundles; each item has its own deadline as well.
                expiration=str(int(left_s * 1000) + 1),
            ),
        )
        confirmed.add_done_callback(partial(self._on_confirmed, session, bundle))

    def _on_confirmed(
        self, session: Session, bundle: Bundle, confirmed: asyncio.Future[None]
    ) -> None:
        """Fail the requests of a bundle that the broker did not accept."""
        error = confirmed.exception()
        if error is None or session is not self._session:  # else everything is resent anyway
            return
        if isinstance(error, ConnectionLostError):
            session.lose(str(error))  # _on_lost resends all unanswered requests
            return
        why = why_refused(bundle.lane.target, error, self._metrics)
        # If this bundle has no queue, the earlier ones have lost theirs.
        if is_gone := isinstance(error, ReturnedError):
            self._on_unroutable(bundle.lane.target)
        lost = [b for b in self._bundles.values() if b.lane is bundle.lane] if is_gone else [bundle]
        for pending in [pending for each in lost for pending in each.requests.values()]:
            give_up(pending.call, why)

    # Answers.

    async def _on_open(self, session: Session) -> None:
        name = self._broker.new_name("replies")
        queue = await declare_own_queue(session.consuming, name, [(REPLIES, name)])
        await session.consuming.consume(queue, self._on_reply, no_ack=True)
        self._session, self._reply_to = session, queue
        self._streams.open(queue)
        self._notices.open(session)
        self._ping.begin(session, queue)
        for lane in self._lanes.values():
            lane.open()

    def _on_lost(self) -> None:
        """Queue all unanswered requests for the next session."""
        self._session = None
        self._notices.close()
        self._ping.end()
        self._streams.break_off()
        self._bundles.clear()
        sent: dict[Lane, list[Pending]] = defaultdict(list)
        for pending in self._pending.values():  # oldest first
            if pending.bundle is not None:
                sent[pending.lane].append(pending)
                pending.bundle = None
                self._metrics.broker_event("resent")
        for lane in self._lanes.values():
            lane.close(sent[lane])

    def _on_reply(self, message: Message) -> None:
        kind, bundle_id = message.properties.message_type, message.properties.correlation_id
        try:
            if kind == envelope.ANSWERS:
                for answer in envelope.decode_answers(message.body):
                    self._answer(answer, message.properties.app_id)
            elif kind == envelope.PIECES:
                self._streams.on_pieces(message)
            elif kind == envelope.PROGRESS:
                self._streams.on_progress(message)
            elif kind == envelope.REFUSAL:
                self._refuse(bundle_id or "", envelope.decode_refusal(message.body))
            elif kind == envelope.PING:
                self._ping.pong()
            else:
                self._metrics.broker_event("orphan")
        except msgspec.MsgspecError as error:
            self._metrics.broker_event("orphan")
            log.warning("answer_unreadable", extra={"why": str(error)})
            if kind in (envelope.ANSWERS, envelope.REFUSAL):
                self._repair.note()  # a damaged answer does not say whose it was

    def _answer(self, answer: envelope.Answer, digest: str | None) -> None:
        pending = self._pending.get(answer.key)
        if pending is None:
            self._metrics.broker_event("late")
        elif isinstance(answer.outcome, Failure):
            pending.call.settle(from_failure(answer.outcome))
        else:
            pending.call.digest = digest
            pending.call.ran(answer.instances, instance_s=answer.instance_s)
            pending.call.settle(answer.outcome)  # type: ignore[arg-type]  # object: an ErrandMixin's

    def _refuse(self, bundle_id: str, failure: Failure) -> None:
        bundle = self._bundles.get(bundle_id)
        if bundle is None:
            self._metrics.broker_event("late")
            return
        for pending in list(bundle.requests.values()):
            if failure.code == Unavailable.code and not pending.is_second_try:
                pending.is_second_try = True
                self._send_again(bundle, pending)  # the bundle was damaged in transit
            else:
                pending.call.settle(from_failure(failure))

    def _send_again(self, bundle: Bundle, pending: Pending) -> None:
        self._metrics.broker_event("resent")
        self._take_out(bundle, pending)
        pending.bundle = None
        pending.lane.add(pending)

    def _resend(self, target: Target | None, departed_before: float) -> None:
        for bundle in list(self._bundles.values()):
            is_meant = target is None or bundle.lane.target == target
            if is_meant and bundle.departed < departed_before:
                for pending in list(bundle.requests.values()):
                    if not is_begun(pending.call):
                        self._send_again(bundle, pending)

    def _give_up_sent(self) -> None:
        """Refuse the requests in flight: an alarm blocks their answers too, for an unknown time."""
        for pending in list(self._pending.values()):
            if pending.bundle is not None:
                pending.call.settle(Unavailable("the broker takes no messages now, and no answers"))
