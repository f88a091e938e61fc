"""A call: one request in flight, and the watchers that are notified when it settles.

The outcome passes through the same objects as the request, in reverse order. On the way out, each
part that carries a call registers itself with ``watch``:

    dispatch.start       the client's call; with a cache, one shared call for identical requests
    dispatch._send       counts it as in flight
    transport.send       keeps it until it is answered (only with a broker)
    pool.submit          queues it for a runner

The way back is ``settle``, which the pool calls with the runner's outcome. It notifies the watchers
in reverse order: the transport drops the call, dispatch decrements its in-flight count, the shared
call passes its outcome on to each client's call, and the gateway writes the response. All of it
happens in one turn of the event loop. A future would cost three times as much, because each of its
callbacks is scheduled as a separate turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self

from modelyard.core.errors import RequestError
from modelyard.core.instances import count_instances
from modelyard.core.messages import Request

log = logging.getLogger(__name__)

Outcome = bytes | RequestError
"""The predictions, in the form of the request, or the error."""


class Call:
    """One request in flight. The first outcome counts; later ones are ignored.

    Args:
        request: The request that it carries.
        on_settled: Called once, with the call, when it is settled.

    Attributes:
        priority: The request's.
        deadline: The request's, a reading of the monotonic clock.
        input_bytes: The size of the input.
        digest: Digest of the model folder that produced the answer, if the transport reports it.
        arrived: When the call reached its pool. Set and read by the pool only.
        blame: How strongly the call is suspected of ending runners. Set and read by the pool only;
            see ``pool/blame.py``.
    """

    __slots__ = (
        "_instances",
        "_watchers",
        "arrived",
        "blame",
        "deadline",
        "digest",
        "input_bytes",
        "outcome",
        "priority",
        "request",
    )

    def __init__(self, request: Request, on_settled: Callable[[Self], None]) -> None:
        self.request = request
        self.priority = request.priority
        self.deadline = request.deadline
        self.input_bytes = len(request.input)
        self.outcome: Outcome | None = None
        self.digest: str | None = None
        self.arrived = 0.0
        self.blame = 0
        self._instances = 0
        self._watchers: list[Callable[[Any], None]] = [on_settled]

    @property
    def is_settled(self) -> bool:
        """Whether it has an outcome."""
        return self.outcome is not None

    is_gone = is_settled  # the name in the backlog's protocol

    @property
    def instances(self) -> int:
        """Number of instances in the input, counted on first use."""
        if not self._instances:
            self._instances = count_instances(self.request.input, self.request.form)
        return self._instances

    def watch(self, watcher: Callable[[Self], None]) -> None:
        """Call ``watcher`` when the call settles, before the watchers registered earlier."""
        self._watchers.append(watcher)

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome and notify the watchers; does nothing if the call is already settled.

        A watcher that raises is a bug: the error is logged, and the other watchers are still
        notified.
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
