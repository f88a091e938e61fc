"""Disconnects clients that do not read their responses."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios
from array import array

STALLED_S = 30.0  # a client that reads nothing for this long is taken for dead


class Stall:
    """Watches one connection while its write buffer is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Start watching, unless that is active already."""
        if self._timer is None:
            self._look(-1)

    def stop(self) -> None:
        """Stop watching: the client reads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, unread_before: int) -> None:
        """Abort the connection if nothing was read since the last check."""
        unread = self._transport.get_write_buffer_size() + self._unread_in_kernel()
        if unread == unread_before:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(STALLED_S, self._look, unread)

    def _unread_in_kernel(self) -> int:
        """Return the bytes in the kernel's buffer. It may hold megabytes, so that our own buffer
        does not change for a minute although the client reads.
        """
        size = array("i", [0])
        with contextlib.suppress(OSError, AttributeError):
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, size)
        return size[0]
