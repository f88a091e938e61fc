"""A gateway's notices to workers about requests that are under way: that their callers have left,
and how many more pieces of streamed answers are wanted. ``departures.py`` receives them.

A notice is a hint. If it is lost, a request runs although nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.session import Session
from modelyard.transports.amqp.topology import NOTICES, queue_name

GATHER_S = 0.01
BLOCKED_RETRY_S = 0.5


def address_of(target: Target) -> str:
    """Return the routing key of notices to all workers of a target."""
    return queue_name(target, "normal")


class Notices:
    """Gathers what is to be told, and sends it."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._left: defaultdict[str, list[bytes]] = defaultdict(list)
        self._granted: defaultdict[str, dict[bytes, int]] = defaultdict(dict)
        self._cancelled: set[bytes] = set()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, session: Session) -> None:
        """Send by a session."""
        self._session = session

    def close(self) -> None:
        """Drop what has not been sent: what it was about is sent again, or has ended."""
        self._session = None
        self._left.clear()
        self._granted.clear()
        self._cancelled.clear()

    def leave(self, address: str, mark: bytes, *, is_cancelled: bool = False) -> None:
        """Tell the workers at an address that nobody waits for a request any more."""
        if self._session is not None:
            self._left[address].append(mark)
            if is_cancelled:
                self._cancelled.add(mark)
            self._schedule()

    def grant(self, address: str, mark: bytes, pieces: int) -> None:
        """Tell a worker how many more pieces of a stream are wanted."""
        if self._session is not None:
            granted = self._granted[address]
            granted[mark] = granted.get(mark, 0) + pieces
            self._schedule()

    def _schedule(self, delay_s: float = GATHER_S) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._session is not None and self._session.publishing.is_blocked:
            self._schedule(BLOCKED_RETRY_S)
            return
        left, self._left = self._left, defaultdict(list)
        granted, self._granted = self._granted, defaultdict(dict)
        cancelled, self._cancelled = self._cancelled, set()
        if self._session is None:
            return
        for address in dict.fromkeys([*left, *granted]):
            marks = left.get(address, [])
            notice = envelope.Notice(
                marks,
                list(granted.get(address, {}).items()),
                [mark for mark in marks if mark in cancelled],
            )
            confirmed = self._session.publishing.publish(
                envelope.encode(notice),
                exchange=NOTICES,
                routing_key=address,
                properties=Properties(message_type=envelope.NOTICE),
                is_mandatory=False,
            )
            confirmed.add_done_callback(lambda done: done.exception())  # nobody to tell is fine
