"""Sends answers back: those of one turn of the event loop leave in one message per gateway.

Path of a request: ``consumer.py`` adds each outcome here. A bundle is acked only when all of its
answers are confirmed. If the worker dies before, the broker redelivers it to another worker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial

from modelyard.core.call import Call
from modelyard.core.errors import Cancelled, Failure, GivenUp
from modelyard.core.messages import Progress
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.confirms import BlockedError, ReturnedError, UnconfirmedError
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.session import BrokerMetrics, Session
from modelyard.transports.amqp.topology import REPLIES

REPLY_TIMEOUT_S = 10.0
BLOCKED_RETRY_S = 0.5
GIVE_BACK_AFTER_S = 0.1  # so that a bundle which no worker can run does not spin
LARGEST_REPLY_BYTES = 1 << 20  # for several answers together; a single one may be larger


class Left(GivenUp):
    """The caller has left, or its gateway: nothing is sent, and the bundle is not redelivered."""


class JobCancelled(Left, Cancelled):
    """The same, of a job that was cancelled."""


class Delivery:
    """A delivered bundle, its calls by key, and how many of its answers are not confirmed yet."""

    __slots__ = ("bundle_id", "calls", "reply_to", "tag", "unconfirmed")

    def __init__(self, message: Message) -> None:
        self.tag = message.tag
        self.reply_to = message.properties.reply_to or ""
        self.bundle_id = message.properties.correlation_id or ""
        self.calls: dict[int, Call] = {}
        self.unconfirmed = 0


Entry = tuple[Delivery, envelope.Answer]


class Replies:
    """The answers of one session with the broker.

    Args:
        session: The session of the deliveries; they can be acked only there.
        metrics: Receives counts.
        digest: Digest of the model folder that answers.
    """

    def __init__(self, session: Session, metrics: BrokerMetrics, *, digest: str) -> None:
        self.open: set[Delivery] = set()
        self.is_abandoned = False
        self._session = session
        self._metrics = metrics
        self._digest = digest
        self._waiting: dict[str, list[Entry]] = {}
        self._closed = asyncio.Event()

    def add(self, delivery: Delivery, answer: envelope.Answer) -> None:
        """Send an answer at the end of this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.setdefault(delivery.reply_to, []).append((delivery, answer))

    def refuse(self, delivery: Delivery, failure: Failure) -> None:
        """Answer a bundle that cannot be read, as a whole."""
        delivery.unconfirmed = 1
        self._send(delivery.reply_to, envelope.REFUSAL, failure, Counter([delivery]))

    def give_back(self, delivery: Delivery) -> None:
        """Return a bundle to the queue for another worker, because this one cannot run it now."""
        if delivery not in self.open:
            return
        self._close(delivery)
        for call in list(delivery.calls.values()):
            call.settle(GivenUp("its bundle goes to another worker"))
        asyncio.get_running_loop().call_later(
            GIVE_BACK_AFTER_S, self._session.consuming.nack, delivery.tag
        )

    def find(self, marks: Container[bytes]) -> dict[bytes, Call]:
        """Return the calls that are open, of those that are marked so."""
        return {
            mark: call
            for delivery in self.open
            for key, call in delivery.calls.items()
            if (mark := envelope.mark(delivery.reply_to, key)) in marks
        }

    def tell_progress(self, calls: Container[Call], progress: Progress) -> None:
        """Tell gateways how far the model is with some calls. It may be lost: others follow."""
        shares: dict[str, list[envelope.Share]] = {}
        for delivery in self.open:
            for key, call in delivery.calls.items():
                if call in calls and not call.is_settled:
                    share = envelope.Share(key, progress.fraction, progress.message)
                    shares.setdefault(delivery.reply_to, []).append(share)
        for reply_to, some in shares.items():
            told = self._session.publishing.publish(
                envelope.encode(some),
                exchange=REPLIES,
                routing_key=reply_to,
                properties=Properties(message_type=envelope.PROGRESS),
            )
            told.add_done_callback(lambda done: done.exception())

    async def all_acked(self) -> None:
        """Wait until no delivery is open."""
        while self.open:
            self._closed.clear()
            await self._closed.wait()

    def abandon(self) -> None:
        """Drop all deliveries: the session is lost, and the broker will redeliver them."""
        self.is_abandoned = True
        for delivery in self.open:
            for call in list(delivery.calls.values()):
                call.settle(GivenUp("the session with the broker was lost"))
        self.open.clear()
        self._waiting.clear()
        self._closed.set()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for reply_to, entries in waiting.items():
            for some in _cut(entries):
                answers = [answer for _, answer in some]
                parts = Counter(delivery for delivery, _ in some)
                self._send(reply_to, envelope.ANSWERS, answers, parts)

    def _send(self, reply_to: str, kind: str, content: object, parts: Counter[Delivery]) -> None:
        """Send one message."""
        confirmed = self._session.publishing.publish(
            envelope.encode(content),
            exchange=REPLIES,
            routing_key=reply_to,
            properties=Properties(
                message_type=kind,
                correlation_id=next(iter(parts)).bundle_id,
                app_id=self._digest,
            ),
        )
        again = partial(self._send, reply_to, kind, content, parts)
        confirmed.add_done_callback(partial(self._on_confirmed, parts, again))

    def _on_confirmed(
        self, parts: Counter[Delivery], again: Callable[[], None], confirmed: asyncio.Future[None]
    ) -> None:
        """Ack the bundles that are now answered. An answer to a gateway that is gone counts too."""
        error = confirmed.exception()
        if isinstance(error, ReturnedError):
            self._metrics.broker_event("orphan")
        elif isinstance(error, BlockedError) and not isinstance(error, UnconfirmedError):
            # If we gave up, the bundle would be redelivered and run again until the alarm ends.
            asyncio.get_running_loop().call_later(BLOCKED_RETRY_S, again)
            return
        elif error is not None:
            self._session.lose(str(error))  # unacked, so the broker redelivers it
            return
        self.answered(parts)

    def answered(self, parts: Mapping[Delivery, int]) -> None:
        """Note how many requests of bundles are done with, and ack those that are done with."""
        for delivery, answered in parts.items():
            delivery.unconfirmed -= answered
            if not delivery.unconfirmed and delivery in self.open:
                self._session.consuming.ack(delivery.tag)
                self._close(delivery)

    def _close(self, delivery: Delivery) -> None:
        self.open.discard(delivery)
        self._closed.set()


def _cut(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Split answers into messages within the size limit."""
    some: list[Entry] = []
    used = 0
    for entry in entries:
        outcome = entry[1].outcome
        size = len(outcome) if isinstance(outcome, bytes) else 0
        if some and used + size > LARGEST_REPLY_BYTES:
            yield some
            some, used = [], 0
        some.append(entry)
        used += size
    yield some
