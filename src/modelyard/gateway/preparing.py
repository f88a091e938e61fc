"""A prediction in progress, from the moment when its body is complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from modelyard.core.call import Outcome
from modelyard.core.errors import RequestError


class Predicting(Protocol):
    """A prediction in progress: a call, or a request that becomes one."""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome; None while it is in progress."""
        ...

    def settle(self, outcome: RequestError) -> None:
        """Cancel it; with ``GivenUp`` no response is sent."""
        ...


class Begun(Predicting, Protocol):
    """One that has begun: a call, or a job that is being kept."""

    def watch(self, watcher: Callable[[object], None], /) -> None:
        """Call ``watcher`` when it has an outcome."""
        ...


class Preparing:
    """A request whose body is being decoded, and later the call that it becomes.

    Args:
        on_given_up: Called with the error if it is cancelled before it becomes a call.
    """

    def __init__(self, on_given_up: Callable[[RequestError], None]) -> None:
        self._on_given_up = on_given_up
        self._call: Begun | None = None
        self._outcome: RequestError | None = None

    @property
    def outcome(self) -> Outcome | None:
        """See ``Predicting``."""
        return self._outcome if self._call is None else self._call.outcome

    def become(self, call: Begun | RequestError) -> None:
        """Note that it has become a call, or was refused."""
        if isinstance(call, RequestError):
            self._outcome = call
        else:
            self._call = call

    def settle(self, outcome: RequestError) -> None:
        """See ``Predicting``."""
        if self._call is not None:
            self._call.settle(outcome)
        elif self._outcome is None:
            self._outcome = outcome
            self._on_given_up(outcome)
