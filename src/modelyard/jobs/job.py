"""A job, in each of the shapes in which it is passed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from modelyard.core.errors import Failure
from modelyard.core.messages import Form
from modelyard.core.objects import ObjectRef

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]

OPEN: frozenset[JobState] = frozenset(("queued", "running"))
"""The states that a job leaves again by itself."""

WHERE_LOGGED = "the server's log for the job"
HIGHEST = 100
"""Of priorities; the lowest is as far below 0."""

_RANDOM_BYTES = 10
_TIME_BYTES = 6  # milliseconds
_AT_ONCE = 64  # each look at what the system has of randomness costs as much as all the rest


class NewJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job that is to be kept. Times are Unix time, in seconds.

    Attributes:
        uid: Its name in the store; uids are in the order in which jobs were made.
        id: Its name for its owner: the client's own, or the uid.
        tenant: Whose it is (``core/fingerprint.py``), in hexadecimal; empty for nobody's.
        owner: The same in words.
        key: Of the caller, for its account; empty if callers are not known.
        model: What is asked.
        version: Which version, or an alias; None for whatever the model answers with by then.
        form: Of the input, and of the answer.
        door: The protocol that it came by; empty for that of ``/predict``.
        echo: What that protocol repeats in its answer.
        input: As received; empty if it is an object.
        timeout_s: Of one attempt; None for the model's own.
        rank: The priority, negated: the lowest goes first.
        created: When it came.
        ready_at: Not to be run before.
        deadline: Not to be begun after.
        max_attempts: How often it may fail.
        callback: Where its end is told; None for nowhere.
        idempotency_key: The client's; None for none.
        digest: Of all that was asked.
        trace: The ``traceparent`` of the request that submitted it; None for none.
        object: The input, if it is one.
    """

    uid: str
    id: str
    tenant: str
    owner: str
    key: str
    model: str
    version: str | None
    form: Form
    door: str
    echo: str
    input: bytes
    timeout_s: float | None
    rank: int
    created: float
    ready_at: float
    deadline: float
    max_attempts: int
    callback: str | None
    idempotency_key: str | None
    digest: str
    trace: str | None = None
    object: ObjectRef | None = None


class Leased(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job that this process is to run, until its lease ends. ``attempt`` fences: what another
    attempt brings is not kept.
    """

    uid: str
    id: str
    attempt: int
    failures: int
    max_attempts: int
    tenant: str
    owner: str
    key: str
    model: str
    version: str | None
    form: Form
    door: str
    echo: str
    input: bytes
    timeout_s: float | None
    trace: str | None = None
    object: ObjectRef | None = None


class Renewed(NamedTuple):
    """What is ``held`` still of jobs that were leased, and which of the others nobody wants any
    more; by uid.
    """

    held: set[str]
    cancelled: set[str]


class Progressed(NamedTuple):
    """How far an attempt is: a ``fraction`` from 0 to 1, and what the model is at."""

    uid: str
    attempt: int
    fraction: float
    message: str


class Ending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came of an attempt.

    Attributes:
        uid: Of the job.
        attempt: Which it was.
        state: ``queued`` to try again at ``ready_at``.
        output: The predictions, as the runner encoded them; None if there are none, or they are an
            object.
        object: The whole answer, if it is one.
        version: That has answered.
        error: Why there are none.
        ready_at: When to try again.
        is_failure: Whether it counts as one of ``max_attempts``.
    """

    uid: str
    attempt: int
    state: JobState
    output: bytes | None = None
    object: ObjectRef | None = None
    version: str | None = None
    error: Failure | None = None
    ready_at: float = 0.0
    is_failure: bool = False


class Result(msgspec.Struct, frozen=True):
    """What a job has brought: its predictions, or the object that the whole answer is."""

    output: bytes
    object: ObjectRef | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as it is now, without input and result. Times are Unix time, in seconds.

    Attributes:
        uid: See ``NewJob``, as for all that is not explained here.
        revision: Grows with each change.
        attempts: How often it was begun.
        failures: How often that failed.
        started: When it was begun for the first time.
        finished: When it came to its end.
        answered_version: The version that answered.
        error: Why it failed, or did so last.
        progress: How far it is, from 0 to 1, if the model says so.
        progress_message: What the model is at.
    """

    uid: str
    id: str
    tenant: str
    owner: str
    model: str
    version: str | None
    form: Form
    door: str
    echo: str
    state: JobState
    revision: int
    rank: int
    created: float
    ready_at: float
    deadline: float
    started: float | None
    finished: float | None
    attempts: int
    failures: int
    max_attempts: int
    callback: str | None
    answered_version: str | None
    error: Failure | None
    progress: float | None
    progress_message: str | None

    @property
    def is_open(self) -> bool:
        """Whether it may still change by itself."""
        return self.state in OPEN


class Accepted(msgspec.Struct, frozen=True):
    """A submission that is kept: now, or before by an equal one.

    Attributes:
        id: Of the job.
        digest: Of what that one asked; it may be another than what was asked now.
    """

    id: str
    digest: str


class Place(msgspec.Struct, frozen=True):
    """Where a job stands in its queue. ``is_exact``: False if there are more before it than were
    counted. ``per_s``: jobs of the model that were finished each second of late.
    """

    before: int
    is_exact: bool
    per_s: float


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are listed, the newest first.

    Attributes:
        tenant: Whose; None for everybody's.
        state: Only these.
        model: Only its.
        before: Only those made before the job with this uid.
        most: How many.
        door: Only those that came by it.
    """

    tenant: str | None
    state: JobState | None = None
    model: str | None = None
    before: str | None = None
    most: int = 100
    door: str | None = None


Jobs = Sequence[Job]


class Uids:
    """Makes uids: as UUID version 7, the time and then what nobody can guess.

    Args:
        random_bytes: Returns so many random bytes, as ``os.urandom``.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._random = b""

    def new(self, now: float) -> str:
        """Return a uid. ``now``: Unix time, in seconds."""
        if not self._random:
            self._random = self._random_bytes(_RANDOM_BYTES * _AT_ONCE)
        mine, self._random = self._random[:_RANDOM_BYTES], self._random[_RANDOM_BYTES:]
        return (int(now * 1000).to_bytes(_TIME_BYTES, "big") + mine).hex()
