"""A call: one request under way, and who is told how it ended.

It goes through all of a process, from who asks to who runs it, and each on the way may listen. A
future would do the same at three times the cost: each of its callbacks is a turn of the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from modelyard.core.errors import RequestError
from modelyard.core.messages import Request

Outcome = bytes | RequestError
"""The predictions, in the form of the request, or why there are none."""


class Call:
    """One request under way. Whoever settles it first settles it for good.

    Args:
        request: What is asked.
        on_settled: Told once, with the call, in the moment when it is settled.
    """

    __slots__ = ("_listeners", "digest", "outcome", "request")

    def __init__(self, request: Request, on_settled: Callable[[Self], None]) -> None:
        self.request = request
        self.outcome: Outcome | None = None
        self.digest: str | None = None  # of the model folder that gave it, where that is told
        self._listeners: list[Callable[[Any], None]] = [on_settled]

    @property
    def is_settled(self) -> bool:
        """Whether it has an outcome: nobody waits for another."""
        return self.outcome is not None

    def listen(self, listener: Callable[[Call], None]) -> None:
        """Have ``listener`` told as well, before those that listen already: whoever carries a call
        lets go of it before the client is told.
        """
        self._listeners.append(listener)

    def settle(self, outcome: Outcome) -> None:
        """Give the call its outcome; does nothing if it has one."""
        if self.outcome is None:
            self.outcome = outcome
            listeners, self._listeners = self._listeners, []
            for listener in reversed(listeners):
                listener(self)
