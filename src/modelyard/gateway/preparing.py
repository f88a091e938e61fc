"""A prediction under way, from the moment when its body is here whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from modelyard.core.call import Outcome
from modelyard.core.errors import RequestError
from modelyard.dispatch.dispatch import ClientCall


class Predicting(Protocol):
    """A prediction under way: a call, or what becomes one."""

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it is under way."""
        ...

    def settle(self, outcome: RequestError) -> None:
        """Give it up; with ``GivenUp`` nothing is responded."""
        ...


class Preparing:
    """A request whose body is being decoded; then the call that it becomes.

    Args:
        on_given_up: Called with why it was given up before it became a call.
    """

    def __init__(self, on_given_up: Callable[[RequestError], None]) -> None:
        self._on_given_up = on_given_up
        self._call: ClientCall | None = None
        self._outcome: RequestError | None = None

    @property
    def outcome(self) -> Outcome | None:
        """See ``Predicting``."""
        return self._outcome if self._call is None else self._call.outcome

    def become(self, call: ClientCall | RequestError) -> None:
        """Note that it is decoded and under way, or refused."""
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
