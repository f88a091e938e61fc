"""Gives up clients that read nothing of what they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios
from array import array

STALLED_S = 30.0  # who takes nothing of an answer for so long is not there


class Stall:
    """Watches one connection while more is to be written than its buffers hold."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin, unless it is watched already."""
        if self._timer is None:
            self._look(-1)

    def stop(self) -> None:
        """Watch no more: it reads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, unread_before: int) -> None:
        """Cut the connection if nothing was read since the last look."""
        unread = self._transport.get_write_buffer_size() + self._unread_in_kernel()
        if unread == unread_before:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(STALLED_S, self._look, unread)

    def _unread_in_kernel(self) -> int:
        """Give how much waits there: megabytes may, and our buffer not change for a minute."""
        size = array("i", [0])
        with contextlib.suppress(OSError, AttributeError):
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, size)
        return size[0]
