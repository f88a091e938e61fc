"""What both clients have in common: a clock, chance, and connections that belong to one process."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .calls import Call
from .exchange import Retry, Steps, exchange

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where ``modelyard serve`` listens."""

ONCE = Retry(attempts=1)

EVENTS_PAUSE_S = 1.0
"""Before a lost connection for events is made again."""

MOST_LISTED = 1000
"""Jobs in one page."""

Http = TypeVar("Http")


class Pool(Generic[Http]):
    """The connections of one client, in the process that uses them.

    A child process has its parent's sockets after a fork: were both to use them, either could read
    the other's answers. So the child gets connections of its own.
    """

    def __init__(self, connect: Callable[[], Http]) -> None:
        self._connect = connect
        self._process = os.getpid()
        self._http = connect()
        self._inherited: list[Http] = []  # never closed here: they are still the parent's

    @property
    def http(self) -> Http:
        """The library's client, of this process."""
        if self._process != os.getpid():
            self._inherited.append(self._http)
            self._process, self._http = os.getpid(), self._connect()
        return self._http


def begin(call: Call[Any], retry: Retry) -> Steps:
    """Return the steps of a call, with the real clock and real random numbers."""
    return exchange(timeout_s=call.timeout_s, retry=retry, now=time.monotonic, chance=random.random)
