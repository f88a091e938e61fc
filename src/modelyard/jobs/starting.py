"""Begins attempts at jobs: sends them the way of every request, at low priority, and with an errand
where large inputs and results have a place.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from modelyard.core.errors import Unavailable
from modelyard.core.names import Target
from modelyard.core.objects import Errand
from modelyard.core.routes import Who
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.dispatch.errands import JobCall
from modelyard.jobs.job import Leased


class Around(NamedTuple):
    """What stands before and behind the predictions in an answer, and its media type."""

    head: bytes
    tail: bytes
    media_type: str


class Sizes(NamedTuple):
    """What is large: inputs and results of more than ``above_bytes`` are objects. A result may have
    ``most_bytes``. ``around``: of the answer to a job by a target.
    """

    above_bytes: int
    most_bytes: int
    around: Callable[[Leased, Target], Around]


class Starter:
    """Begins attempts.

    Args:
        dispatch: Answers them.
        sizes: What is large; None if there is no place for objects.
    """

    def __init__(self, dispatch: Dispatch, sizes: Sizes | None = None) -> None:
        self._dispatch = dispatch
        self._sizes = sizes

    def start(self, job: Leased, who: Who, on_answered: Callable[[ClientCall], None]) -> ClientCall:
        """Begin an attempt; see ``Dispatch.start``."""
        ask = Ask(job.model, msgspec.Raw(job.input), job.version, job.timeout_s, "low")
        make: Callable[..., ClientCall] = ClientCall
        if self._sizes is None and job.object is not None:
            raise Unavailable("the job's input is an object, and this gateway has no job_files_url")
        if self._sizes is not None:
            make = partial(JobCall, errand_for=partial(self._errand_for, self._sizes, job))
        return self._dispatch.start(
            ask,
            on_answered,
            job.uid,
            form=job.form,
            tenant=bytes.fromhex(job.tenant),
            caller=job.key,
            who=who,
            make=make,
        )

    def _errand_for(self, sizes: Sizes, job: Leased, target: Target) -> Errand:
        around = sizes.around(job, target)
        return Errand(
            # Whoever else runs the job at the same time has another name.
            output=f"{job.uid}/{secrets.token_hex(8)}",
            above_bytes=sizes.above_bytes,
            most_bytes=sizes.most_bytes,
            head=around.head,
            tail=around.tail,
            media_type=around.media_type,
            input=job.object,
        )
