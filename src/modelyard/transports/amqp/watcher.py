"""A gateway's view of the workers: receives statuses, fetches cards, and updates the catalog.

A worker that has been silent for ``FORGET_AFTER_S`` is gone. A gateway that starts asks all workers
for their status. It fetches an unknown card once, from a worker that has it. Gateways let the
broker keep the card of each target, so one that starts while a target has no worker knows that
there is one: it may be asleep, or its workers may be on their way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

import msgspec
from pamqp import commands

from modelyard.core.messages import Announcement, Member
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.announcer import (
    FORGET_AFTER_S,
    PUBLISH_TIMEOUT_S,
    SPREAD_S,
    publish_card,
    publish_hello,
)
from modelyard.transports.amqp.confirms import BlockedError
from modelyard.transports.amqp.connection import Connection
from modelyard.transports.amqp.known import Known
from modelyard.transports.amqp.news import RouteNews
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.session import (
    ALL_RETURN_WITHIN_S,
    LOST,
    Broker,
    Session,
    Supervisor,
)
from modelyard.transports.amqp.topology import (
    CARDS,
    CATALOG,
    KEPT,
    ROUTES,
    SENT,
    QueueType,
    declare_kept_cards,
    declare_own_queue,
)

MOST_TARGETS = 10_000  # versions of models; announcements of further ones are dropped
TICK_S = 1.0
KNOWS_ALL_AFTER_S = 2 * SPREAD_S + 0.5  # from the first hello on
LACKS_AT_MOST_S = 10.0  # a worker whose card does not come keeps no gateway unready for ever
TIDY_EVERY_S = 3600.0  # kept cards that were replaced are dropped so often


class Watcher:
    """Watches the workers, and remembers targets that have none.

    Args:
        broker: The broker, and our identity there.
        queue_type: Type of the queue that keeps cards.
        announce: Called with a target's announcement at every change.
        forget: Called with a target that nobody has announced for ``forget_after_s``.
        is_blocked: Whether the broker has an alarm, so that no worker can be heard.
        on_queue_lost: Called with a target whose queue was deleted, and when.
        forget_after_s: How long a target without workers is remembered, unless it sleeps.
        news: What gateways tell each other; None for nothing.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        queue_type: QueueType,
        announce: Callable[[Announcement], None],
        forget: Callable[[Target], None],
        is_blocked: Callable[[], bool],
        on_queue_lost: Callable[[Target, float], None],
        forget_after_s: float,
        news: RouteNews | None = None,
    ) -> None:
        self._broker = broker
        self._queue_type: QueueType = queue_type
        self._announce = announce
        self._forget = forget
        self._is_blocked = is_blocked
        self._on_queue_lost = on_queue_lost
        self._forget_after_s = forget_after_s
        self._news = news
        self._known: dict[Target, Known] = {}
        self._cards: dict[str, envelope.Card] = {}  # by id
        self._kept: dict[Target, str] = {}  # ids of the cards that the broker keeps
        self._to_keep: dict[Target, bytes] = {}
        self._forgotten: set[Target] = set()  # whose kept cards are still to be dropped
        self._session: Session | None = None
        self._first_heard: float | None = None
        self._knows_all_after_s = KNOWS_ALL_AFTER_S
        self._is_complete = False
        self._hurried = asyncio.Event()
        self._tidied = -math.inf
        self._supervisor = Supervisor(
            broker,
            role="watcher",
            on_open=self._on_open,
            on_lost=self._on_lost,
            confirm_timeout_s=PUBLISH_TIMEOUT_S,
            is_one_connection=True,
        )

    @property
    def knows_all(self) -> bool:
        """Whether every worker that is up has had the time to announce itself, once."""
        if not self._is_complete and self._first_heard is not None:
            waited_s = self._broker.clock() - self._first_heard
            is_lacking = waited_s < LACKS_AT_MOST_S and bool(self._lacking())
            self._is_complete = waited_s > self._knows_all_after_s and not is_lacking
        return self._is_complete

    def known(self, target: Target) -> Known | None:
        """Return the view of a target, with its load and workers; None if it is not known."""
        return self._known.get(target)

    def members(self, target: Target) -> list[Member]:
        """Return a target's workers."""
        known = self._known.get(target)
        return known.members if known else []

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run())
            group.create_task(self._tick_on_and_on())

    def forget_asleep(self, target: Target) -> None:
        """Forget a sleeping target whose queue is gone, since nothing could wake it."""
        known = self._known.get(target)
        if known is not None and not known.workers and known.card is not None:
            known.card = msgspec.structs.replace(known.card, scale_to_zero=False)
            self._drop_kept_card(target)
            self._tell(known)

    async def _on_open(self, session: Session) -> None:
        connection, now = session.consuming, self._broker.clock()
        self._kept.clear()  # it may be another broker: workers say their cards again, too
        bindings = [(CATALOG, ""), (CARDS, SENT), (CARDS, KEPT)]
        bindings += [(CARDS, ROUTES)] if self._news is not None else []
        queue = await declare_own_queue(connection, self._broker.new_name("catalog"), bindings)
        await connection.consume(queue, self._on_message, no_ack=True)
        await self._tidy(connection)
        await publish_hello(connection, envelope.Hello(self._broker.owner))
        for known in self._known.values():
            known.excuse(now)
        self._session = session
        if self._news is not None:
            self._news.on_open(session)
        if self._first_heard is None:
            self._first_heard = now
            if self._supervisor.tries:  # the broker was away, so the workers are on their way back
                self._knows_all_after_s += ALL_RETURN_WITHIN_S

    def _on_lost(self) -> None:
        self._session = None
        if self._news is not None:
            self._news.on_lost()

    async def _tidy(self, connection: Connection) -> None:
        """Read the cards that the broker keeps, and drop all but the last one of each target.

        Cards are published again, so gateways that read at the same time miss none. If the queue
        cannot be declared, the session is lost, and the next session does not try again.
        """
        now = self._broker.clock()
        if now - self._tidied < TIDY_EVERY_S:
            return
        self._tidied = now
        kept = await declare_kept_cards(connection, self._queue_type)
        cards: dict[Target, tuple[envelope.Card, bytes]] = {}
        tag = 0
        while (got := await connection.get(kept)) is not None:
            tag = got.tag
            try:
                card = envelope.decode_card(got.body)
            except msgspec.MsgspecError:
                continue
            cards[card.target] = (card, got.body)
        for target in self._forgotten:
            cards.pop(target, None)
        self._forgotten.clear()
        for card, body in cards.values():
            self._on_card(card, body, is_kept=True)
            await publish_card(connection, body, is_kept=True)
        if tag:
            connection.tell(commands.Basic.Ack(delivery_tag=tag, multiple=True))

    def _on_message(self, message: Message) -> None:
        kind = message.properties.message_type
        try:
            if kind == envelope.STATUS:
                self._on_status(envelope.decode_status(message.body))
            elif kind == envelope.CARD:
                is_kept = message.properties.correlation_id == KEPT
                self._on_card(envelope.decode_card(message.body), message.body, is_kept=is_kept)
            elif self._news is not None:
                self._news.on_message(message)
        except msgspec.MsgspecError:
            return  # damaged, or not one of our messages; the next status comes soon

    def _on_status(self, status: envelope.Status) -> None:
        now = self._broker.clock()
        known = self._known_of(status.target)
        if known is None:
            return
        if known.hear(status, now):
            self._tell(known)
            if known.newer_card() is not None:
                self._hurried.set()  # its card is not known: ask for it now
        if status.queue_lost_s is not None:
            self._on_queue_lost(status.target, now - status.queue_lost_s)

    def _on_card(self, card: envelope.Card, body: bytes, *, is_kept: bool) -> None:
        target, card_id = card.target, envelope.card_id(body)
        known = self._known_of(target)
        if known is None:
            return
        if is_kept:
            self._kept[target] = card_id
            self._to_keep.pop(target, None)
        elif card.digest and self._kept.get(target) != card_id:
            self._to_keep[target] = body
        if len(self._cards) > 2 * MOST_TARGETS:
            self._drop_cards()
        self._cards[card_id] = card
        self._forgotten.discard(target)
        if not known.workers:
            known.card, known.card_id = card, card_id
        self._tell(known)

    def _known_of(self, target: Target) -> Known | None:
        """Return the view of a target that is announced; None if there are too many."""
        known = self._known.get(target)
        if known is None and len(self._known) < MOST_TARGETS:
            known = self._known[target] = Known(target, self._broker.clock())
        return known

    def _drop_cards(self) -> None:
        """Drop the cards that are not in use."""
        in_use = {known.card_id for known in self._known.values()}
        self._cards = {key: card for key, card in self._cards.items() if key in in_use}

    def _tell(self, known: Known) -> None:
        """Announce a target, with its workers' current card."""
        newer = known.newer_card()
        if newer is not None and (card := self._cards.get(newer.card)) is not None:
            known.card, known.card_id = card, newer.card
        if (announcement := known.announcement()) is not None:
            self._announce(announcement)

    async def _tick_on_and_on(self) -> None:
        while True:
            self._hurried.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S * self._broker.chance.uniform(0.5, 1.0)):
                    await self._hurried.wait()
            now = self._broker.clock()
            if self._is_blocked():
                for known in self._known.values():
                    known.excuse(now)
            elif self._session is not None:
                self._forget_silent(now)
                await self._ask(self._session, now)

    def _forget_silent(self, now: float) -> None:
        for target, known in list(self._known.items()):
            if known.drop_silent(now - FORGET_AFTER_S, now):
                self._tell(known)
            empty_since = known.empty_since
            is_old = empty_since is not None and now - empty_since > self._forget_after_s
            if is_old and known.state != "asleep":
                del self._known[target]
                self._forget(target)
                self._drop_kept_card(target)

    def _drop_kept_card(self, target: Target) -> None:
        """Let the broker drop a target's card at the next tick."""
        self._kept.pop(target, None)
        self._to_keep.pop(target, None)
        self._forgotten.add(target)
        self._tidied = -math.inf

    def _lacking(self) -> list[str]:
        """Return the workers to ask for missing cards, one for each target."""
        newer = [known.newer_card() for known in self._known.values()]
        return [s.worker for s in newer if s is not None and s.card not in self._cards]

    async def _ask(self, session: Session, now: float) -> None:
        """Request missing cards, let the broker keep new ones, and tidy up now and then."""
        try:
            if lacking := self._lacking():
                hello = envelope.Hello(self._broker.owner, lacking)
                await publish_hello(session.publishing, hello)
            for target, body in list(self._to_keep.items()):
                if self._to_keep.get(target) is body:  # no other gateway was quicker
                    await publish_card(session.publishing, body, is_kept=True)
                    self._to_keep.pop(target, None)
                    self._kept[target] = envelope.card_id(body)
            if now - self._tidied > TIDY_EVERY_S:
                self._drop_cards()
                await self._tidy(session.consuming)
        except BlockedError:
            return
        except LOST as error:
            session.lose(str(error))
