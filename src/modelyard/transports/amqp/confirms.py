"""Errors of the broker connection, and the publisher confirms that are outstanding.

BrokerError
├── ConnectionLostError      the connection is gone
├── ReturnedError            the message has no queue
├── NackedError              the queue is full
└── BlockedError             the broker accepts no messages now
    └── UnconfirmedError     the broker did not confirm in time
"""

from __future__ import annotations

import asyncio


class BrokerError(Exception):
    """The broker did not do what it was asked."""


class ConnectionLostError(BrokerError):
    """The connection is lost, or must be closed."""


class ReturnedError(BrokerError):
    """The message was returned: no queue is bound for it."""


class NackedError(BrokerError):
    """The broker rejected the message: the queue is full, or cannot store it."""


class BlockedError(BrokerError):
    """The broker accepts no messages now: it is short of memory or disk."""


class UnconfirmedError(BlockedError):
    """The broker did not confirm in time."""


class Confirms:
    """The unconfirmed messages of one connection, by delivery tag."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, asyncio.Future[None]]] = {}
        self._published = 0

    def add(self, confirmed: asyncio.Future[None], *, now: float) -> int:
        """Register a message, and return its number; ``confirmed`` is settled with it."""
        self._published += 1
        self._waiting[self._published] = (now, confirmed)
        return self._published

    def settle(self, number: int, error: BrokerError | None) -> None:
        """Settle a message. A returned one is confirmed as well, but is settled already by then."""
        _, confirmed = self._waiting.pop(number, (0.0, None))
        if confirmed is None or confirmed.done():
            return
        if error is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(error)

    def settle_up_to(self, number: int, error: BrokerError | None) -> None:
        """Settle a message and all earlier ones."""
        for earlier in [n for n in self._waiting if n <= number]:
            self.settle(earlier, error)

    def fail_all(self, error: BrokerError) -> None:
        """Fail all unconfirmed messages."""
        for number in list(self._waiting):
            self.settle(number, error)

    def fail_late(self, published_before: float) -> None:
        """Fail the messages that were published before a point in time."""
        for number, (published, _) in list(self._waiting.items()):
            if published > published_before:
                break
            self.settle(number, UnconfirmedError("the broker did not confirm in time"))
