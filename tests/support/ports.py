"""Ports for servers that cannot be started with port 0 and be asked for theirs."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

_LOWEST = 10_000
_DEALT_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _own() -> Iterator[int]:
    """Give ports that no other process of this test run gives, and none twice for long.

    They lie below those that the system deals out, to connections and to servers with port 0:
    one of those is at times taken before the server that is to have it has started.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    dealt_out = int(_DEALT_OUT.read_text().split()[0])
    share = (dealt_out - _LOWEST if dealt_out > 2 * _LOWEST else 2 * _LOWEST) // processes
    ports = range(_LOWEST + number * share, _LOWEST + (number + 1) * share)
    return itertools.islice(itertools.cycle(ports), random.randrange(share), None)


_ports = _own()


def free_port() -> int:
    """Give a port that nobody listens on."""
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
