"""Gateways tell each other of routes: what has changed, and to one that starts, all that there is.

A snapshot is believed if our own user of the broker has sent it. RabbitMQ sees to that: the
property ``user-id`` of a message is the user of the connection that published it, or the message is
refused. So workers, whose users are others, cannot set routes, whatever they may publish.
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
MOST_LOST = 2  # sessions in a row that a snapshot has ended: this broker does not want any
_EXPIRATION = str(int(FORGET_AFTER_S * 1000))

log = logging.getLogger(__name__)


class RouteNews:
    """What a gateway says to others of routes, and hears from them.

    Args:
        broker: The broker, and our identity there.
        snapshot: Returns what this gateway follows.
        hear: Called with what others follow.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        snapshot: Callable[[], Snapshot],
        hear: Callable[[Snapshot], None],
    ) -> None:
        self._broker = broker
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
        self._begin(b"", envelope.ROUTES_WANTED, user="")

    def on_lost(self) -> None:
        """Say nothing for now."""
        self._session = None

    def tell(self, snapshot: Snapshot) -> None:
        """Tell the others what this gateway has just read."""
        if self._session is None or self._lost >= MOST_LOST:
            return
        content = envelope.encode(snapshot)
        if len(content) <= LARGEST_BYTES:
            self._begin(content, envelope.ROUTES, user=self._session.user)

    def on_message(self, message: Message) -> None:
        """Take a message of another gateway.

        Raises:
            msgspec.MsgspecError: It is damaged.
        """
        properties = message.properties
        if properties.app_id == self._broker.owner:
            return
        if properties.message_type == envelope.ROUTES_WANTED:
            self._on_wanted()
        elif properties.message_type == envelope.ROUTES:
            self._on_snapshot(message)

    def _on_wanted(self) -> None:
        if self._answering is None and self._snapshot().number >= 0:
            delay_s = self._broker.chance.uniform(0, SPREAD_S)
            self._answering = asyncio.get_running_loop().call_later(delay_s, self._answer)

    def _answer(self) -> None:
        self._answering = None
        self.tell(self._snapshot())

    def _on_snapshot(self, message: Message) -> None:
        session = self._session
        if session is None or message.properties.user_id != session.user:
            if not self._has_complained:
                user = str(message.properties.user_id)
                log.warning("routes_not_believed", extra={"user": user})
            self._has_complained = True
            return
        snapshot = envelope.decode_routes(message.body)
        if self._answering is not None and snapshot.number >= self._snapshot().number:
            self._answering.cancel()  # another gateway was as quick
            self._answering = None
        self._hear(snapshot)

    def _begin(self, content: bytes | bytearray, kind: str, *, user: str) -> None:
        task = asyncio.get_running_loop().create_task(self._publish(content, kind, user))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, content: bytes | bytearray, kind: str, user: str) -> None:
        """Publish; that it may fail is no harm, since all gateways read the store as well."""
        session = self._session
        if session is None:
            return
        try:
            await session.publishing.publish(
                content or envelope.encode(None),
                exchange=CARDS,
                routing_key=ROUTES,
                properties=Properties(
                    expiration=_EXPIRATION,
                    message_type=kind,
                    user_id=user or None,
                    app_id=self._broker.owner,
                ),
                is_mandatory=False,
            )
        except LOST as error:
            log.debug("routes_not_told", extra={"why": str(error)})
            self._lost += bool(user) and session.lost.is_set()
        else:
            self._lost = 0 if user else self._lost
