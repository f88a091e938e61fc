"""Interfaces that the pool depends on: ``Runner``, ``Launch`` and ``PoolMetrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from modelyard.core.call import Call
from modelyard.core.manifest import Manifest
from modelyard.core.messages import (
    Answers,
    LoadFailed,
    Measured,
    Progress,
    Ready,
    Reply,
    Said,
    ToRunner,
)
from modelyard.pool.output import Line

CANCEL_GRACE_S = 10.0
"""How long a runner may go on with what was cancelled, unless a setting says otherwise."""


class Runner(Protocol):
    """A started runner, as a slot uses it; ``pool/runner_process.py`` is the real one."""

    @property
    def opened(self) -> asyncio.Future[Ready | LoadFailed]:
        """The outcome of loading; cancelled if the runner ended before that."""
        ...

    def send(self, message: ToRunner) -> None:
        """Send a message."""
        ...

    def kill(self) -> None:
        """Kill it now."""
        ...

    def read_output(self) -> None:
        """Read the output so far: a runner prints before it answers."""
        ...

    def last_lines(self) -> list[str]:
        """Return the last lines that it printed or logged."""
        ...

    async def wait(self) -> int:
        """Wait until it has ended and its messages are read; return the exit code."""
        ...


class Launch(Protocol):
    """Starts a runner."""

    def __call__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
        on_line: Callable[[Line], None],
        on_step: Callable[[str], None],
        on_said: Callable[[Said], None],
    ) -> Awaitable[Runner]:
        """Start a runner for the model in ``folder``; raises OSError if that fails.

        ``on_said`` is told what the model says of itself: how far it is, what it measures.

        ``on_closed`` is called when nothing can be sent to it any more, ``on_line`` with each line
        that it prints or logs. ``on_step`` is told what takes its time before the process starts,
        and ``""`` when that is over: in between, and only then, the start may be cancelled.
        """
        ...


class PoolMetrics(Protocol):
    """What a pool reports."""

    def batch_started(self, waits_s: list[float]) -> None:
        """A batch was handed to a runner; ``waits_s``: how long each of its requests waited."""
        ...

    def batch_answered(self, answers: Answers) -> None:
        """A runner answered."""
        ...

    def runner_lost(self, cause: str) -> None:
        """A runner ended unexpectedly: ``crashed``, ``killed`` (from outside), ``hung``,
        ``cancelled`` or ``load_failed``.
        """
        ...

    def expired(self, count: int) -> None:
        """Requests were dropped before they ran, because their deadline had passed."""
        ...

    def came_late(self) -> None:
        """An answer came after its call had been settled."""
        ...

    def measured(self, runner: int, measured: Measured) -> None:
        """A model has measured something of its own; ``runner``: a number of its runner's."""
        ...

    def runner_ended(self, runner: int) -> None:
        """A runner has ended, wanted or not."""
        ...


TellProgress = Callable[[list[Call], Progress], None]
"""Told how far the model is with some calls."""


def tell_nobody(calls: list[Call], progress: Progress) -> None:
    """Do nothing: where nobody wants to know how far models are."""
