"""How a runner ended, and what was lost with it."""

from __future__ import annotations

import signal
from typing import NamedTuple

from modelyard.core.call import Call
from modelyard.pool.blame import Cause

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of a runner that was killed from outside, by an operator or the kernel (OOM)."""


class Ending(NamedTuple):
    """How a runner ended, ``lived_s`` seconds after it was ready, if it was.

    ``told``: what callers are told instead of ``how``, if not empty.
    """

    cause: Cause
    how: str
    told: str = ""
    was_ready: bool = False
    lived_s: float = 0.0
    last_lines: tuple[str, ...] = ()


class Lost(NamedTuple):
    """A runner's end, and the calls it had: ``batch`` was running, ``ahead`` had not begun.

    ``told``: what callers are told instead of ``how``, if not empty. ``failed_loads``: number of
    runners in a row that ended before they were ready; ``is_repeated``: whether the last one before
    it ended in the same way. ``retry_s``: seconds until the next one is started.
    """

    batch: list[Call]
    ahead: list[Call]
    cause: Cause
    how: str
    told: str
    failed_loads: int
    is_repeated: bool
    retry_s: float
    last_lines: tuple[str, ...]

    def log_fields(self) -> dict[str, object]:
        """Return what the log says of it."""
        fields: dict[str, object] = {"cause": self.cause, "how": self.how}
        if self.batch:
            fields["ids"] = [call.request.id for call in self.batch]
        if self.failed_loads:
            fields["failed_loads"] = self.failed_loads
        if self.failed_loads or self.retry_s:
            fields["retry_in_s"] = self.retry_s
        if self.last_lines and not self.is_repeated:
            fields["last_lines"] = list(self.last_lines)
        return fields


def describe(exit_code: int) -> str:
    """Say how a process has ended."""
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
