"""The listening socket, bound before all else: a port that is taken should be known at once."""

from __future__ import annotations

import socket

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Give a listening socket; port 0 takes a free one.

    Raises:
        OSError: The address is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
