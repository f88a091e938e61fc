"""What to do next in a call: send, wait, or stop. No I/O, no clock and no chance of its own.

``exchange`` is a generator: it yields a ``Send`` or a ``Wait``, is told what came of it, and
returns the answer, or raises. ``client.py`` does what it says, once blocking and once with asyncio;
so retries and deadlines are written, and tested, once.

A prediction may be asked for again without harm. So a 503 and a lost connection are retried, and
nothing else: not a 4xx, which would be the same again, and not a 502 or 504, where the model had
its try.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import count
from typing import TypeAlias

import msgspec

from .errors import (
    ConnectionFailed,
    DeadlineExceeded,
    ModelyardError,
    error_of,
)

GRACE_S = 1.0
"""How much longer than ``timeout_s`` an answer is waited for: the gateway's own 504 says more."""

PATIENCE_S = 310.0
"""How long all tries may take without ``timeout_s``: at a gateway no request takes over 300 s."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often to try, and how long to pause in between.

    A pause is drawn evenly from 0 to ``base_s`` · 2ⁿ, at most ``longest_s`` ("full jitter": M.
    Brooker, Exponential Backoff And Jitter, AWS, 2015), so that many clients do not come back at
    one moment. ``Retry-After`` is added to it. There is no try after the deadline.

    Attributes:
        attempts: Tries in all; 1 never retries.
        base_s: Upper bound, in seconds, of the first pause.
        longest_s: Upper bound of any pause.
        also_unavailable: Whether a 503 is tried again as well, and not only a connection that was
            lost.
    """

    attempts: int = 5
    base_s: float = 0.1
    longest_s: float = 5.0
    also_unavailable: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.longest_s < 0:
            raise ValueError("Retry: attempts must be at least 1, and no pause negative")

    def pause_s(self, failures: int, *, after_s: float | None, chance: float) -> float:
        """Return the pause after so many failures; ``chance`` is drawn uniformly from [0, 1)."""
        ceiling_s = min(self.longest_s, self.base_s * 2.0 ** (failures - 1))
        return (after_s or 0.0) + chance * ceiling_s


class Send(msgspec.Struct, frozen=True):
    """Send the request.

    ``timeout_s`` is what to tell the gateway, if anything; ``give_up`` the moment after which not
    to wait any longer.
    """

    timeout_s: float | None
    give_up: float


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for a while."""

    seconds: float


class Reply(msgspec.Struct, frozen=True):
    """An answer, whatever it says."""

    status: int
    media_type: str
    body: bytes
    retry_after_s: float | None = None
    cache: str | None = None
    request_id: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300


class Lost(msgspec.Struct, frozen=True):
    """There was no answer, and another try may get one: a connection refused, reset or cut."""

    cause: Exception


class TimedOut(msgspec.Struct, frozen=True):
    """``give_up`` passed without an answer."""

    cause: Exception


Step: TypeAlias = Send | Wait
Outcome: TypeAlias = Reply | Lost | TimedOut | None
"""What came of a step; None of a ``Wait``."""

Steps: TypeAlias = Generator[Step, Outcome, Reply]
"""A call in progress."""

RETRIED_STATUS = 503


def exchange(
    *,
    timeout_s: float | None,
    retry: Retry,
    now: Callable[[], float],
    chance: Callable[[], float],
) -> Steps:
    """Lead one call from its first try to its answer.

    Args:
        timeout_s: Seconds that the call may take, retries included; None leaves it to the model.
        retry: How often to try.
        now: A clock that only goes forward, in seconds.
        chance: Returns a number drawn uniformly from [0, 1).

    Raises:
        ModelyardError: There is no answer with a 2xx.
    """
    started = now()
    deadline = started + (PATIENCE_S if timeout_s is None else timeout_s)
    left_s = timeout_s
    for attempt in count(1):
        outcome = yield Send(left_s, give_up=deadline + GRACE_S)
        if isinstance(outcome, Reply) and outcome.is_success:
            return outcome
        error = _error_of(outcome, attempt, now() - started)
        pause_s = retry.pause_s(attempt, after_s=error.retry_after_s, chance=chance())
        if (
            not _is_retried(outcome, retry)
            or attempt >= retry.attempts
            or now() + pause_s >= deadline
        ):
            break
        yield Wait(pause_s)
        remaining_s = deadline - now()
        if remaining_s <= 0:  # the pause took longer than it was meant to
            break
        left_s = None if timeout_s is None else remaining_s
    raise error from getattr(outcome, "cause", None)


def advance(steps: Steps, outcome: Outcome) -> Step | Reply:
    """Pass the outcome of a call's last step to it; returns the next step, or the reply."""
    try:
        return steps.send(outcome)
    except StopIteration as end:
        reply: Reply = end.value
        return reply


def _is_retried(outcome: Outcome, retry: Retry) -> bool:
    return isinstance(outcome, Lost) or (
        isinstance(outcome, Reply) and outcome.status == RETRIED_STATUS and retry.also_unavailable
    )


def _error_of(outcome: Outcome, attempt: int, spent_s: float) -> ModelyardError:
    if isinstance(outcome, Reply):
        return error_of(outcome.status, outcome.body, retry_after_s=outcome.retry_after_s)
    assert outcome is not None
    reason = str(outcome.cause) or type(outcome.cause).__name__
    spent = f"after {spent_s:.1f} s and {attempt} {'try' if attempt == 1 else 'tries'}: {reason}"
    if isinstance(outcome, TimedOut):
        return DeadlineExceeded(f"no answer in time, {spent}")
    return ConnectionFailed(f"no answer {spent}")
