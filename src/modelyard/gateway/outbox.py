"""Writes the responses of one turn of the event loop together, at its end.

Written one by one, between other work, each response would wake the client's process, and a wake-up
costs more than the work. Path of a request: ``HttpConnection.respond`` calls ``add``.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary


class Outbox:
    """Pending writes to all connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kept: list[tuple[asyncio.Transport, bytes]] = []
        self._dated: list[tuple[bytes, bytes]] = []
        self._date_lines = b""

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send ``data`` at the end of this turn of the loop."""
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append((transport, data))

    def flush(self) -> None:
        """Send everything that is pending."""
        kept, self._kept = self._kept, []
        for transport, data in kept:
            if not transport.is_closing():
                transport.write(data)

    def date_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the lines of the headers that every response has; they change once a second."""
        if headers is not self._dated:
            self._dated = headers
            self._date_lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._date_lines


_outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()


def outbox_of(loop: asyncio.AbstractEventLoop) -> Outbox:
    """Return the outbox of a loop, which all its connections share."""
    outbox = _outboxes.get(loop)
    if outbox is None:
        outbox = _outboxes[loop] = Outbox(loop)
    return outbox
