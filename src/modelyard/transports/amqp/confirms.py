"""What can go wrong between us and the broker, and which published messages it has not confirmed.

BrokerError
├── ConnectionLostError      the connection is gone
├── ReturnedError            no queue takes the message
├── NackedError              the queue is full
└── BlockedError             the broker takes no messages now
    └── UnconfirmedError     it did not confirm in time
"""

from __future__ import annotations

import asyncio


class BrokerError(Exception):
    """The broker did not do what it was asked."""


class ConnectionLostError(BrokerError):
    """The connection is gone, or must be given up."""


class ReturnedError(BrokerError):
    """No queue takes the message."""


class NackedError(BrokerError):
    """The queue is full, or could not keep the message."""


class BlockedError(BrokerError):
    """The broker takes no messages now: it is short of memory or disk."""


class UnconfirmedError(BlockedError):
    """The broker did not confirm in time: it is silent."""


class Confirms:
    """The published messages of one connection that are not confirmed yet, by their numbers."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, asyncio.Future[None]]] = {}
        self._published = 0

    def add(self, confirmed: asyncio.Future[None], *, now: float) -> int:
        """Give a message its number; ``confirmed`` is done when the broker has it."""
        self._published += 1
        self._waiting[self._published] = (now, confirmed)
        return self._published

    def settle(self, number: int, error: BrokerError | None) -> None:
        """Settle a message. One that came back is confirmed too, and settled already."""
        _, confirmed = self._waiting.pop(number, (0.0, None))
        if confirmed is None or confirmed.done():
            return
        if error is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(error)

    def settle_up_to(self, number: int, error: BrokerError | None) -> None:
        """Settle a message and all before it."""
        for earlier in [n for n in self._waiting if n <= number]:
            self.settle(earlier, error)

    def fail_all(self, error: BrokerError) -> None:
        """Fail all that are not confirmed."""
        for number in list(self._waiting):
            self.settle(number, error)

    def fail_late(self, published_before: float) -> None:
        """Fail those that were published before a moment."""
        for number, (published, _) in list(self._waiting.items()):
            if published > published_before:
                break
            self.settle(number, UnconfirmedError("the broker did not confirm in time"))
