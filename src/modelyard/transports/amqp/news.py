"""Gateways tell each other of routes: what has changed, and to one that starts, all that there is.

A snapshot is believed if our own user of the broker has sent it. RabbitMQ sees to that: the
property ``user-id`` of a message is the user of the connection that published it, or the message is
refused. So workers, whose users are others, cannot set routes, whatever they may publish. And it is
of the same store, since several may share a broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from modelyard.core.routes import Snapshot
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.announcer import FORGET_AFTER_S
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.parser import Message
from modelyard.transports.amqp.session import LOST, Broker, Session
from modelyard.transports.amqp.topology import CARDS, ROUTES

SPREAD_S = 0.3  # one gateway answers, and the others need not
LARGEST_BYTES = 8 << 20
MOST_LOST = 2  # sessions in a row that a message has ended: this broker does not want any
_EXPIRATION = str(int(FORGET_AFTER_S * 1000))

log = logging.getLogger(__name__)


class RouteNews:
    """What a gateway says to others of routes, and hears from them.

    Args:
        broker: The broker, and our identity there.
        store: Names the store that the routes are in; empty if there is none.
        snapshot: Returns what this gateway follows.
        hear: Called with what others follow.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        store: str,
        snapshot: Callable[[], Snapshot],
        hear: Callable[[Snapshot], None],
    ) -> None:
        self._broker = broker
        self._store = store
        self._snapshot = snapshot
        self._hear = hear
        self._session: Session | None = None
        self._answering: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = 0
        self._has_complained = False

    def on_open(self, session: Session) -> None:
        """Ask the others what they follow; nobody waits for it."""
        self._session = session
        self._say(None)

    def on_lost(self) -> None:
        """Say nothing for now."""
        self._session = None

    def tell(self, snapshot: Snapshot) -> None:
        """Tell the others what this gateway has just read."""
        self._say(snapshot)

    def on_message(self, message: Message) -> None:
        """Take a message of another gateway.

        Raises:
            msgspec.MsgspecError: It is damaged.
        """
        session, properties = self._session, message.properties
        if properties.message_type != envelope.ROUTES or session is None:
            return
        if properties.app_id == self._broker.owner:
            return
        if properties.user_id != session.user:
            if not self._has_complained:
                user = str(properties.user_id)
                log.warning("routes_not_believed", extra={"user": user})
            self._has_complained = True
            return
        told = envelope.decode_told(message.body)
        if told.store != self._store:
            return
        if told.snapshot is None:
            self._on_wanted()
        else:
            self._on_snapshot(told.snapshot)

    def _on_wanted(self) -> None:
        if self._answering is None and self._snapshot().number >= 0:
            delay_s = self._broker.chance.uniform(0, SPREAD_S)
            self._answering = asyncio.get_running_loop().call_later(delay_s, self._answer)

    def _answer(self) -> None:
        self._answering = None
        self.tell(self._snapshot())

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        if self._answering is not None and snapshot.number >= self._snapshot().number:
            self._answering.cancel()  # another gateway was as quick
            self._answering = None
        self._hear(snapshot)

    def _say(self, snapshot: Snapshot | None) -> None:
        session = self._session
        if session is None or not self._store or self._lost >= MOST_LOST:
            return
        content = envelope.encode(envelope.Told(self._store, snapshot))
        if len(content) > LARGEST_BYTES:
            return
        task = asyncio.get_running_loop().create_task(self._publish(session, content))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, session: Session, content: bytearray) -> None:
        """Publish; that it may fail is no harm, since all gateways read the store as well."""
        try:
            await session.publishing.publish(
                content,
                exchange=CARDS,
                routing_key=ROUTES,
                properties=Properties(
                    expiration=_EXPIRATION,
                    message_type=envelope.ROUTES,
                    user_id=session.user,
                    app_id=self._broker.owner,
                ),
                is_mandatory=False,
            )
        except LOST as error:
            log.debug("routes_not_told", extra={"why": str(error)})
            self._lost += session.lost.is_set()
        else:
            self._lost = 0
