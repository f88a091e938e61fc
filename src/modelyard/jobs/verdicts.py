"""What becomes of a job after an attempt: its end, or another attempt, and when."""

from __future__ import annotations

from functools import partial
from random import Random

from modelyard.core.call import Outcome
from modelyard.core.errors import (
    GivenUp,
    InvalidInput,
    Malformed,
    ModelNotFound,
    ObjectLost,
    RequestError,
    TooLarge,
    Unavailable,
    VersionNotFound,
    WrongMediaType,
)
from modelyard.core.objects import ObjectRef
from modelyard.jobs.job import Ending, Leased

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
_FOR_EVER = (Malformed, InvalidInput, TooLarge, WrongMediaType, ObjectLost)  # the same again
_NOT_ITS_FAULT = (Unavailable, GivenUp, ModelNotFound, VersionNotFound)  # nothing has run


def ending_of(
    job: Leased, outcome: Outcome | ObjectRef, version: str | None, *, now: float, chance: Random
) -> Ending:
    """Return what becomes of a job.

    Args:
        job: As it was leased.
        outcome: Of the attempt.
        version: That was asked.
        now: Unix time, in seconds.
        chance: Spreads attempts, so that jobs that failed together do not come back together.
    """
    end = partial(Ending, uid=job.uid, attempt=job.attempt)
    if isinstance(outcome, bytes):
        return end(state="succeeded", output=outcome, version=version)
    if isinstance(outcome, ObjectRef):
        return end(state="succeeded", object=outcome, version=version)
    error = outcome.to_failure()
    is_failure = not isinstance(outcome, _NOT_ITS_FAULT)
    is_last = is_failure and job.failures + 1 >= job.max_attempts
    if is_last or isinstance(outcome, _FOR_EVER):
        return end(state="failed", version=version, error=error, is_failure=True)
    ready_at = now if isinstance(outcome, GivenUp) else now + _pause_s(job, outcome, chance)
    return end(state="queued", error=error, ready_at=ready_at, is_failure=is_failure)


def _pause_s(job: Leased, error: RequestError, chance: Random) -> float:
    """Return how long to wait: twice as long each time, and of that any part ("full jitter")."""
    longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(job.attempt, 20))
    least_s = min(error.retry_after_s or 0, LONGEST_PAUSE_S)
    return float(least_s) + chance.random() * longest_s
