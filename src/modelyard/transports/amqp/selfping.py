"""Messages to our own reply queue: a missing one shows a hung broker or a lost queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelyard.core.clock import Clock
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.session import Session
from modelyard.transports.amqp.topology import REPLIES

EVERY_S = 2.0
LATE_S = 0.5  # if a pong is later than this, a missed deadline is blamed on the broker
TIMEOUT_S = 4.0
BLOCKED_S = 1.0  # after this long in an alarm, requests that were sent before get a 503 too


class SelfPing:
    """Pings through the current session.

    Args:
        clock: For the time since the last pong.
        on_blocked: Called while an alarm has lasted longer than ``BLOCKED_S``.
    """

    def __init__(self, clock: Clock, *, on_blocked: Callable[[], None]) -> None:
        self._clock = clock
        self._on_blocked = on_blocked
        self._session: Session | None = None
        self._reply_to = ""
        self._heard = 0.0

    @property
    def is_heard(self) -> bool:
        """Whether the last pong came in time."""
        return self._clock() - self._heard < EVERY_S + LATE_S

    def begin(self, session: Session, reply_to: str) -> None:
        """Ping through this session from now on."""
        self._session, self._reply_to, self._heard = session, reply_to, self._clock()

    def end(self) -> None:
        """Stop pinging."""
        self._session = None

    def pong(self) -> None:
        """Note that a ping came back."""
        self._heard = self._clock()

    async def run(self) -> None:
        """Ping until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self._session is not None:
                self._ping(self._session)

    def _ping(self, session: Session) -> None:
        now = self._clock()
        if session.publishing.is_blocked:
            self._heard = now  # pings are known not to get through now
            if now - session.publishing.blocked_since > BLOCKED_S:
                self._on_blocked()
        elif now - self._heard > TIMEOUT_S:
            session.lose("the self-ping did not come back")
        else:
            ping = session.publishing.publish(
                b"",
                exchange=REPLIES,
                routing_key=self._reply_to,
                properties=Properties(message_type=envelope.PING),
                is_mandatory=False,
            )
            ping.add_done_callback(asyncio.Future.exception)  # a missing pong is noticed anyway
