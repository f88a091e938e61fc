"""From a request to its answer: shared, limited, kept, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import Any

import pytest

from modelyard.core.errors import (
    DeadlineExceeded,
    GivenUp,
    Malformed,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    RequestError,
    Unavailable,
    VersionNotFound,
)
from modelyard.core.names import Target
from tests.unit.asking import (
    CAP_S,
    IRIS,
    Asking,
    Clock,
    Prediction,
    announcement,
    ask_for,
    predict,
    settle,
)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    asking = Asking(clock)
    asking.catalog.announce(announcement())
    return asking


def outcome(task: asyncio.Task[Prediction]) -> tuple[bytes, str]:
    """Give the answer and how the cache was used, of a task that is done."""
    prediction = task.result()
    assert prediction.target == IRIS
    return prediction.output, prediction.cache_use


async def test_a_request_reaches_the_transport_whole(asking: Asking) -> None:
    ask = ask_for(b"[1, 2]", IRIS, timeout_s=2.5, priority="high")
    task = asyncio.create_task(predict(asking.dispatch, ask, request_id="r1"))
    await settle()
    (request,) = asking.transport.requests
    assert (request.id, request.target, request.priority) == ("r1", IRIS, "high")
    assert bytes(request.input) == b"[1, 2]"
    assert request.deadline == asking.clock.now + 2.5
    await asking.answer(0, b"[0,0]")
    assert outcome(task) == (b"[0,0]", "miss")


async def test_identical_requests_share_one_execution(asking: Asking) -> None:
    tasks = [await asking.ask() for _ in range(3)]
    assert asking.sent == asking.in_flight == 1
    await asking.answer(0, b"[7]")
    assert [outcome(task) for task in tasks] == [
        (b"[7]", "miss"),
        (b"[7]", "coalesced"),
        (b"[7]", "coalesced"),
    ]
    assert asking.metrics.uses == ["miss", "coalesced", "coalesced"]
    assert asking.in_flight == 0


async def test_an_urgent_request_does_not_wait_for_one_that_is_not(asking: Asking) -> None:
    normal = await asking.ask()
    urgent = await asking.ask(priority="high")
    assert [request.priority for request in asking.transport.requests] == ["normal", "high"]
    another = await asking.ask()
    assert asking.sent == 2
    await asking.answer(1, b"[7]")
    assert outcome(urgent) == (b"[7]", "miss")
    assert outcome(another) == (b"[7]", "coalesced")
    await asking.answer(0, b"[7]")
    assert outcome(normal) == (b"[7]", "miss")


async def test_different_requests_share_nothing(asking: Asking) -> None:
    tasks = [await asking.ask(b"[1]"), await asking.ask(b"[2]")]
    await asking.answer(1, b"[20]")
    await asking.answer(0, b"[10]")
    assert [outcome(task) for task in tasks] == [(b"[10]", "miss"), (b"[20]", "miss")]


async def test_an_answer_is_kept_for_its_time(asking: Asking) -> None:
    await asking.ask()
    await asking.answer(0, b"[7]")
    assert outcome(await asking.ask()) == (b"[7]", "hit")
    await asking.let_time_pass(60)
    later = await asking.ask()
    assert asking.sent == 2
    await asking.answer(1, b"[7]")
    assert outcome(later) == (b"[7]", "miss")


async def test_a_changed_model_is_asked_again(asking: Asking) -> None:
    await asking.ask()
    await asking.answer(0, b"[7]")
    asking.catalog.announce(announcement(digest="sha256:1"))
    task = await asking.ask()
    await asking.answer(1, b"[8]")
    assert outcome(task) == (b"[8]", "miss")


@pytest.mark.parametrize("later", [["sha256:1"], ["", "sha256:0"]], ids=["new", "mixed"])
async def test_an_answer_that_may_be_another_models_is_not_kept(
    asking: Asking, later: list[str]
) -> None:
    await asking.ask()
    for digest in later:
        asking.catalog.announce(announcement(digest=digest))
    await asking.answer(0, b"[8]")
    asking.catalog.announce(announcement(digest="sha256:0"))
    task = await asking.ask()
    await asking.answer(1, b"[7]")
    assert outcome(task) == (b"[7]", "miss")


async def test_the_first_caller_can_leave_and_disturbs_nobody(asking: Asking) -> None:
    first, second = await asking.ask(), await asking.ask()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert not asking.is_given_up(0)
    await asking.answer(0, b"[7]")
    assert outcome(second) == (b"[7]", "coalesced")


async def test_a_joined_caller_can_leave_and_disturbs_nobody(asking: Asking) -> None:
    first, second = await asking.ask(), await asking.ask()
    second.cancel()
    await asking.answer(0, b"[7]")
    assert second.cancelled()
    assert outcome(first) == (b"[7]", "miss")


async def test_the_last_to_leave_cancels_the_execution(asking: Asking) -> None:
    tasks = [await asking.ask(), await asking.ask()]
    for task in tasks:
        task.cancel()
    await settle()
    assert asking.is_given_up(0)
    assert asking.in_flight == 0
    again = await asking.ask()
    await asking.answer(1, b"[7]")
    assert outcome(again) == (b"[7]", "miss")


async def test_who_shares_with_nobody_can_leave_too(asking: Asking) -> None:
    asking.catalog.announce(announcement(ttl_s=0))
    task = await asking.ask()
    task.cancel()
    await settle()
    assert asking.is_given_up(0)
    assert asking.in_flight == 0


async def test_a_deadline_ends_the_wait_of_its_caller_only(asking: Asking) -> None:
    patient, hasty = await asking.ask(timeout_s=10), await asking.ask(timeout_s=1)
    await asking.let_time_pass(1.1)
    assert isinstance(hasty.exception(), DeadlineExceeded)
    assert asking.metrics.expirations == 1
    assert not asking.is_given_up(0)
    await asking.answer(0, b"[7]")
    assert outcome(patient) == (b"[7]", "miss")


async def test_a_flight_that_is_never_heard_of_again_ends_with_its_own_deadline(
    asking: Asking,
) -> None:
    """A broker drops what has expired, and tells nobody."""
    hasty, patient = await asking.ask(timeout_s=1), await asking.ask(timeout_s=10)
    await asking.let_time_pass(1.1)
    assert isinstance(hasty.exception(), DeadlineExceeded)
    assert (asking.sent, asking.in_flight) == (2, 1)
    await asking.answer(1, b"[7]")
    assert outcome(patient) == (b"[7]", "coalesced")


async def test_who_is_late_by_another_clock_does_not_fly_again(asking: Asking) -> None:
    alone = await asking.ask(timeout_s=1)
    await asking.answer(0, DeadlineExceeded("by the worker's clock"))
    assert isinstance(alone.exception(), DeadlineExceeded)
    assert asking.sent == 1


async def test_nothing_is_left_for_the_garbage_collector(asking: Asking) -> None:
    """What only the collector finds may hold a body for long."""
    gc.collect()
    gc.disable()
    try:
        asking.catalog.announce(announcement(max_in_flight=1))
        for number in range(3):
            raw = b"[%d]" % number
            asking.dispatch.start(ask_for(raw), lambda _: None, request_id="id")
            with contextlib.suppress(Overloaded):
                asking.dispatch.start(ask_for(b"[9]"), lambda _: None, request_id="id")
            asking.transport.calls.pop().settle(b"[7]")
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_who_has_time_left_is_not_ended_by_another_deadline(asking: Asking) -> None:
    hasty, patient = await asking.ask(timeout_s=1), await asking.ask(timeout_s=10)
    patients_deadline = asking.clock.now + 10
    await asking.let_time_pass(1.1)
    await asking.answer(0, DeadlineExceeded("it was in the backlog for too long"))
    assert hasty.done()
    assert asking.sent == 2
    assert asking.transport.requests[1].deadline == patients_deadline
    await asking.answer(1, b"[7]")
    assert outcome(patient) == (b"[7]", "coalesced")
    assert asking.in_flight == 0


async def test_the_second_try_also_ends_at_its_deadline(asking: Asking) -> None:
    _, patient = await asking.ask(timeout_s=1), await asking.ask(timeout_s=10)
    await asking.let_time_pass(1.1)
    await asking.answer(0, DeadlineExceeded("it was in the backlog for too long"))
    await asking.let_time_pass(9)
    assert isinstance(patient.exception(), DeadlineExceeded)
    assert asking.metrics.expirations == 2
    assert asking.transport.calls[1].is_settled


@pytest.mark.parametrize("ttl_s", [0, 60])
async def test_what_nobody_waits_for_is_cancelled(asking: Asking, ttl_s: float) -> None:
    asking.catalog.announce(announcement(ttl_s=ttl_s))
    task = await asking.ask(timeout_s=1)
    await asking.let_time_pass(0.9)
    assert not task.done()
    await asking.let_time_pass(0.2)
    assert isinstance(task.exception(), DeadlineExceeded)
    assert asking.transport.calls[0].is_settled
    assert asking.metrics.expirations == 1
    assert asking.in_flight == 0


@pytest.mark.parametrize(
    ("asked_s", "expected_s"), [(None, 30), (1.5, 1.5), (99, 99), (3600, CAP_S)]
)
async def test_the_deadline_is_the_timeout_from_now(
    asking: Asking, asked_s: float | None, expected_s: float
) -> None:
    task = await asking.ask(timeout_s=asked_s)
    assert asking.transport.requests[0].deadline == asking.clock.now + expected_s
    task.cancel()
    await settle()


async def test_a_timeout_that_is_none_is_refused(asking: Asking) -> None:
    task = await asking.ask(timeout_s=-1)
    assert isinstance(task.exception(), Malformed)
    assert asking.sent == 0


@pytest.mark.parametrize("ttl_s", [0, 60])
async def test_one_too_many_is_refused_at_once(asking: Asking, ttl_s: float) -> None:
    asking.catalog.announce(announcement(ttl_s=ttl_s, max_in_flight=2))
    tasks = [await asking.ask(b"[%d]" % number) for number in range(3)]
    error = tasks[2].exception()
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 1
    assert asking.sent == asking.in_flight == 2
    await asking.answer(0, b"[7]")
    assert not (await asking.ask(b"[3]")).done()
    assert asking.sent == 3
    await asking.answer(1, b"[7]")
    await asking.answer(2, b"[7]")
    assert asking.in_flight == 0


async def test_who_is_refused_is_told_when_the_queue_will_be_gone(asking: Asking) -> None:
    asking.catalog.announce(announcement(ttl_s=0, max_in_flight=20))
    for number in range(20):
        await asking.ask(b"[%d]" % number, timeout_s=100)
    assert retry_after(await asking.ask()) == 1  # nothing is known yet
    for number in range(10):
        await asking.let_time_pass(1)
        await asking.answer(number, b"[7]")
        await asking.ask(b"[1]", timeout_s=100)
    assert retry_after(await asking.ask()) == 20  # 20 wait, and one a second is answered


def retry_after(task: asyncio.Task[Any]) -> int | None:
    error = task.exception()
    assert isinstance(error, Overloaded)
    return error.retry_after_s


async def test_a_caller_has_two_batches_under_way_and_the_rest_leaves_in_its_turn(
    asking: Asking,
) -> None:
    asking.catalog.announce(announcement(ttl_s=0, max_batch_size=2))
    for number in range(10):
        asking.start(b"[%d]" % number, caller="often")
    assert asking.sent == 6  # two before there was a queue, and two batches of two
    asking.start(b"[77]", caller="rarely")
    assert bytes(asking.transport.requests[-1].input) == b"[77]"
    await asking.answer(0, b"[7]")
    assert asking.sent == 7
    await asking.answer(2, b"[7]")
    assert bytes(asking.transport.requests[-1].input) == b"[6]"
    given_up = asking.start(b"[99]", caller="often")
    given_up.settle(GivenUp("it left"))
    for number in (1, *range(3, 11)):
        await asking.answer(number, b"[7]")
    assert asking.sent == 11
    assert asking.in_flight == 0
    assert b"[99]" not in [bytes(request.input) for request in asking.transport.requests]


@pytest.mark.parametrize("ttl_s", [0, 60])
async def test_thousands_that_wait_for_their_turn_are_all_refused_when_the_first_is(
    asking: Asking, ttl_s: float
) -> None:
    asking.catalog.announce(announcement(ttl_s=ttl_s, max_batch_size=1, max_in_flight=10_000))
    calls = [asking.start(b"[%d]" % number, caller="often") for number in range(2000)]
    assert asking.sent == 3
    asking.transport.refusal = Unavailable("away")
    for number in range(3):
        await asking.answer(number, b"[7]")
    assert [call.outcome for call in calls[3:]] == [asking.transport.refusal] * 1997
    assert asking.in_flight == 0


async def test_a_request_of_more_than_its_callers_share_runs_all_the_same(asking: Asking) -> None:
    asking.catalog.announce(announcement(ttl_s=0, max_batch_size=2))
    for _ in range(6):
        asking.start(b"[1,2,3,4,5,6,7,8,9]", caller="often")
    assert asking.sent == 4  # two before there was a queue, and two that count as a batch each


async def test_who_joins_needs_no_room(asking: Asking) -> None:
    asking.catalog.announce(announcement(max_in_flight=1))
    tasks = [await asking.ask(), await asking.ask()]
    await asking.answer(0, b"[7]")
    assert [outcome(task)[0] for task in tasks] == [b"[7]", b"[7]"]


async def test_errors_reach_all_who_wait_and_are_not_kept(asking: Asking) -> None:
    tasks = [await asking.ask(), await asking.ask()]
    await asking.answer(0, ModelFailed("the model raised ValueError"))
    assert [type(task.exception()) for task in tasks] == [ModelFailed, ModelFailed]
    assert asking.in_flight == 0
    again = await asking.ask()
    await asking.answer(1, b"[7]")
    assert outcome(again) == (b"[7]", "miss")


async def test_a_model_that_is_no_function_of_its_input_is_always_asked(asking: Asking) -> None:
    asking.catalog.announce(announcement(ttl_s=0))
    tasks = [await asking.ask(), await asking.ask()]
    await asking.answer(0, b"[1]")
    await asking.answer(1, b"[2]")
    assert [outcome(task) for task in tasks] == [(b"[1]", "bypass"), (b"[2]", "bypass")]
    third = await asking.ask()
    await asking.answer(2, b"[3]")
    assert outcome(third) == (b"[3]", "bypass")
    assert asking.metrics.uses == []


async def test_a_bypass_does_not_take_what_is_known_and_renews_it(asking: Asking) -> None:
    await asking.ask()
    await asking.answer(0, b"[old]")
    fresh = await asking.ask(is_bypass=True)
    await asking.answer(1, b"[new]")
    assert outcome(fresh) == (b"[new]", "bypass")
    assert outcome(await asking.ask()) == (b"[new]", "hit")
    assert asking.metrics.uses == ["miss", "bypass", "hit"]


async def test_a_bypass_joins_nobody(asking: Asking) -> None:
    first, alone = await asking.ask(), await asking.ask(is_bypass=True)
    assert asking.sent == 2
    await asking.answer(0, b"[1]")
    await asking.answer(1, b"[2]")
    assert [outcome(first), outcome(alone)] == [(b"[1]", "miss"), (b"[2]", "bypass")]


async def test_a_model_that_is_not_ready_is_not_asked(asking: Asking) -> None:
    asking.catalog.announce(announcement(state="failed", reason="no such file"))
    error = (await asking.ask()).exception()
    assert isinstance(error, ModelNotReady)
    assert error.detail == "iris/1 is failed: no such file"
    assert error.retry_after_s == 1
    assert (asking.sent, asking.in_flight) == (0, 0)


@pytest.mark.parametrize(
    ("target", "kind"),
    [(Target("rose", "1"), ModelNotFound), (Target("iris", "2"), VersionNotFound)],
)
async def test_what_does_not_exist_is_not_asked(
    asking: Asking, target: Target, kind: type[RequestError]
) -> None:
    with pytest.raises(kind):
        await predict(asking.dispatch, ask_for(b"[1]", target))
    assert asking.sent == 0
