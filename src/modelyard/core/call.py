"""A call: one request under way, and who is told how it ended.

The way there and the way back of a request are the same objects in opposite order. On the way there
each part that carries a call adds itself with ``watch``:

    dispatch.start       the client's call; with a cache, one shared call for identical requests
    dispatch._send       counts it as in flight
    transport.send       keeps it until it is answered (only with a broker)
    pool.submit          lets it wait for a runner

and the way back is ``settle``, which the pool calls with what the runner answered. It tells the
watchers in reverse: the transport lets go of the call, dispatch counts it out, the shared call
gives its outcome to each client's, and the gateway writes the response. All of it happens in one
turn of the event loop. A future would do the same at three times the cost: each callback of a
future is a turn of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self

from modelyard.core.batch import Priority
from modelyard.core.errors import RequestError
from modelyard.core.instances import count_instances
from modelyard.core.messages import Request

log = logging.getLogger(__name__)

Outcome = bytes | RequestError
"""The predictions, in the form of the request, or why there are none."""


class Call:
    """One request under way. The first outcome counts; later ones are ignored.

    Args:
        request: What is asked.
        on_settled: Called once, with the call, when it is settled.

    Attributes:
        digest: Of the model folder that gave the answer, where the transport tells.
        arrived: When it came to the pool that runs it; that pool's note.
        blame: How strongly it is suspected of ending runners; the pool's note. See ``pool/blame``.
    """

    __slots__ = ("_instances", "_watchers", "arrived", "blame", "digest", "outcome", "request")

    def __init__(self, request: Request, on_settled: Callable[[Self], None]) -> None:
        self.request = request
        self.outcome: Outcome | None = None
        self.digest: str | None = None
        self.arrived = 0.0
        self.blame = 0
        self._instances = 0
        self._watchers: list[Callable[[Any], None]] = [on_settled]

    @property
    def is_settled(self) -> bool:
        """Whether it has an outcome: nobody waits for another."""
        return self.outcome is not None

    is_gone = is_settled  # what a backlog calls it

    @property
    def priority(self) -> Priority:
        """That of the request."""
        return self.request.priority

    @property
    def deadline(self) -> float:
        """That of the request, a reading of the monotonic clock."""
        return self.request.deadline

    @property
    def input_bytes(self) -> int:
        """The size of the input."""
        return len(self.request.input)

    @property
    def instances(self) -> int:
        """How many instances the input holds; counted once."""
        if not self._instances:
            self._instances = count_instances(self.request.input, self.request.form)
        return self._instances

    def watch(self, watcher: Callable[[Self], None]) -> None:
        """Have ``watcher`` called as well when it is settled, before those that watch already."""
        self._watchers.append(watcher)

    def settle(self, outcome: Outcome) -> None:
        """Give the call its outcome and tell the watchers; does nothing if it has one.

        A watcher that raises is a defect: it is logged, and keeps nobody else from being told.
        """
        if self.outcome is not None:
            return
        self.outcome = outcome
        watchers, self._watchers = self._watchers, []
        for watcher in reversed(watchers):
            try:
                watcher(self)
            except Exception:
                log.exception("watcher_failed", extra={"id": self.request.id})
