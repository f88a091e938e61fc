"""Closes a connection on which nothing has happened for a while."""

from __future__ import annotations

import asyncio
from typing import Protocol

from modelyard.gateway.stall import Stall

KEEP_ALIVE_S = 75


class Kept(Protocol):
    """A connection, as far as it matters here."""

    transport: asyncio.Transport
    quiet_since: float

    @property
    def is_waiting(self) -> bool:
        """Whether nothing of the next request has come."""
        ...


class KeepAlive:
    """Watches one connection.

    Args:
        loop: Its loop.
        connection: It.
        stall: Watches it for a client that does not read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Kept, stall: Stall) -> None:
        self._loop = loop
        self._connection = connection
        self._stall = stall
        self._timer = loop.call_later(KEEP_ALIVE_S, self._look)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _look(self) -> None:
        """Close the connection if it was quiet for ``KEEP_ALIVE_S``, else check later."""
        connection = self._connection
        is_waiting = connection.is_waiting
        left_s = connection.quiet_since + KEEP_ALIVE_S - self._loop.time()
        if connection.transport.is_closing():  # once the client has read the last answer
            self._stall.watch()
        elif not is_waiting or left_s > 0:
            wait_s = left_s if is_waiting else KEEP_ALIVE_S
            self._timer = self._loop.call_later(wait_s, self._look)
        else:
            connection.transport.close()
