"""A job that this process runs."""

from __future__ import annotations

from typing import Protocol

import msgspec

from modelyard.core.call import Outcome
from modelyard.core.routes import UNKNOWN, Who
from modelyard.jobs.job import Leased


class Running(Protocol):
    """What runs a job: a call, or a bulk run."""

    def settle(self, outcome: Outcome) -> None:
        """End it, unless it has ended."""
        ...


class Held(msgspec.Struct):
    """A job, what is passed on with it, what runs it, and whether its end is being kept."""

    job: Leased
    who: Who = UNKNOWN
    call: Running | None = None
    is_ending: bool = False
