"""When a call is tried again, and when no longer: the rules alone, on a clock that tests turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.client import ConnectionFailed, DeadlineExceeded, ModelyardError, Overloaded, Retry
from modelyard.client.exchange import (
    GRACE_S,
    PATIENCE_S,
    Lost,
    Outcome,
    Reply,
    Send,
    Step,
    TimedOut,
    Wait,
    exchange,
)


def answer(status: int, code: str = "", retry_after_s: float | None = None) -> Reply:
    document = {"code": code, "detail": "it happened", "status": status, "request_id": "7"}
    body = msgspec.json.encode(document) if code else b""
    return Reply(status, "application/json", body, retry_after_s)


FINE = answer(200)
FULL = answer(503, "overloaded")
RESET = Lost(ConnectionResetError("reset by peer"))


class Told:
    """What a call is told to do, if its tries end as listed and take ``seconds`` each."""

    def __init__(
        self,
        outcomes: Iterable[Outcome],
        *,
        timeout_s: float | None = None,
        retry: Retry = Retry(),
        chance: float = 1.0,
        seconds: float = 0.0,
    ) -> None:
        self.now = 100.0
        self.steps: list[Step] = []
        self.reply: Reply | None = None
        self.error: ModelyardError | None = None
        left = iter(outcomes)
        call = exchange(
            timeout_s=timeout_s, retry=retry, now=lambda: self.now, chance=lambda: chance
        )
        outcome: Outcome = None
        try:
            while True:
                step = call.send(outcome)
                self.steps.append(step)
                outcome = None if isinstance(step, Wait) else next(left)
                self.now += step.seconds if isinstance(step, Wait) else seconds
        except StopIteration as end:
            self.reply = end.value
        except ModelyardError as error:
            self.error = error

    @property
    def waits(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Wait)]

    @property
    def tries(self) -> list[Send]:
        return [step for step in self.steps if isinstance(step, Send)]


def test_an_answer_ends_the_call() -> None:
    told = Told([FINE], timeout_s=2.0)
    assert told.reply is FINE
    assert told.steps == [Send(2.0, give_up=102.0 + GRACE_S)]


def test_without_a_timeout_the_gateway_is_told_none_and_trusted_to_answer() -> None:
    told = Told([FINE])
    assert told.steps == [Send(None, give_up=100.0 + PATIENCE_S + GRACE_S)]


@pytest.mark.parametrize("outcome", [FULL, RESET, answer(503)])
def test_no_capacity_and_a_lost_connection_are_retried(outcome: Outcome) -> None:
    assert Told([outcome, outcome, FINE]).reply is FINE


@pytest.mark.parametrize("status", [301, *range(400, 430), 500, 502, 504])
def test_nothing_else_is(status: int) -> None:
    told = Told([answer(status)])
    assert (len(told.tries), told.waits) == (1, [])
    assert told.error is not None
    assert told.error.status == status


def test_a_deadline_that_passed_here_is_not_retried() -> None:
    told = Told([TimedOut(TimeoutError("no bytes"))], timeout_s=2.0, seconds=3.0)
    assert isinstance(told.error, DeadlineExceeded)
    assert str(told.error) == (
        "deadline_exceeded: no answer in time, after 3.0 s and 1 try: no bytes"
    )
    assert (told.error.status, told.error.request_id) == (None, None)


def test_pauses_grow_up_to_a_limit() -> None:
    retry = Retry(attempts=6, base_s=0.5, longest_s=3.0)
    assert Told([FULL] * 6, retry=retry).waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_pause_is_drawn_from_zero_to_its_bound() -> None:
    retry = Retry(attempts=3, base_s=1.0)
    assert Told([FULL] * 3, retry=retry, chance=0.0).waits == [0.0, 0.0]
    assert Told([FULL] * 3, retry=retry, chance=0.25).waits == [0.25, 0.5]


def test_the_gateway_is_not_asked_before_it_wants_to_be() -> None:
    told = Told([answer(503, "overloaded", 2.0), FULL, FINE], retry=Retry(base_s=0.5), chance=0.5)
    assert told.waits == [2.25, 0.5]


def test_the_last_error_is_raised_with_its_cause() -> None:
    told = Told([RESET, FULL], retry=Retry(attempts=2))
    assert isinstance(told.error, Overloaded)
    told = Told([FULL, RESET], retry=Retry(attempts=2, base_s=0.5), seconds=1.0)
    assert isinstance(told.error, ConnectionFailed)
    assert told.error.detail == "no answer after 2.5 s and 2 tries: reset by peer"
    assert told.error.__cause__ is RESET.cause


def test_a_retry_tells_the_gateway_what_is_left() -> None:
    told = Told([FULL, FULL, FINE], timeout_s=10.0, retry=Retry(base_s=1.0), seconds=2.0)
    assert [step.timeout_s for step in told.tries] == [10.0, 7.0, 3.0]
    assert {step.give_up for step in told.tries} == {110.0 + GRACE_S}


def test_no_pause_is_begun_that_would_end_after_the_deadline() -> None:
    told = Told([answer(503, "overloaded", 5.0)], timeout_s=5.0, chance=0.0)
    assert (told.waits, len(told.tries)) == ([], 1)
    assert isinstance(told.error, Overloaded)
    assert told.error.retry_after_s == 5.0


def test_a_pause_that_took_too_long_is_the_end() -> None:
    clock = [0.0]
    call = exchange(timeout_s=1.0, retry=Retry(), now=lambda: clock[0], chance=lambda: 1.0)
    next(call)
    assert call.send(FULL) == Wait(0.1)
    clock[0] = 1.0  # the process stood still
    with pytest.raises(Overloaded):
        call.send(None)


@given(
    outcomes=st.lists(st.sampled_from([FULL, RESET, answer(503, "", 0.7)]), min_size=9),
    timeout_s=st.floats(0.01, 20),
    seconds=st.floats(0, 3),
    chance=st.floats(0, 1, exclude_max=True),
    attempts=st.integers(1, 9),
)
def test_no_try_begins_after_the_deadline_and_none_is_one_too_many(
    outcomes: list[Outcome], timeout_s: float, seconds: float, chance: float, attempts: int
) -> None:
    told = Told(
        outcomes,
        timeout_s=timeout_s,
        retry=Retry(attempts=attempts),
        chance=chance,
        seconds=seconds,
    )
    assert told.error is not None
    assert len(told.tries) <= attempts
    assert all(step.timeout_s is not None and step.timeout_s > 0 for step in told.tries)
    assert isinstance(told.steps[-1], Send)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1.0}, {"longest_s": -1.0}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**wrong)
