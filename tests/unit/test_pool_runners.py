"""The runners of a pool: loading, how many there are, and their end with the pool."""

from __future__ import annotations

import asyncio

import pytest

from modelyard.core.errors import (
    Failure,
    ModelNotReady,
    ShuttingDown,
)
from modelyard.core.manifest import Batching, Limits
from modelyard.pool.pool import TICK_S
from modelyard.pool.runners import GROW_AFTER_S
from modelyard.pool.slot import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, UNLOAD_GRACE_S
from tests.unit.asking import settle
from tests.unit.pooling import (
    CRASHED,
    KILLED,
    ONE_BY_ONE,
    SLEEPY,
    UP_TO_TWO,
    inputs_of,
    kind,
    manifest,
    pooling,
    serving,
)

# Loads that fail.


async def test_a_model_that_cannot_be_loaded_refuses_and_is_tried_again_ever_more_rarely() -> None:
    async with pooling() as found:
        waiting = await found.ask()
        await found.runners[0].fail("no such file")
        assert (found.state, kind(waiting)) == ("failed: no such file", ModelNotReady)
        refused = await found.ask()
        assert "no such file" in str(refused.outcome)
        backoff_s = FIRST_BACKOFF_S
        for tries in range(1, 10):
            assert found.pool.failed_loads == tries
            await found.pass_time(backoff_s - 0.01)
            assert len(found.runners) == tries
            await found.pass_time(0.01)
            await found.runners[tries].fail("no such file")
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
        for _ in range(1100):  # for more than nine hours
            await found.pass_time(LONGEST_BACKOFF_S)
            await found.runners[-1].fail("no such file")
        await found.pass_time(LONGEST_BACKOFF_S)
        await found.runners[-1].load()
        assert (found.state, found.pool.failed_loads) == ("ready", 0)


async def test_a_runner_that_ends_while_it_loads_is_tried_again_twice_at_once() -> None:
    async with pooling() as found:
        for number in range(3):
            assert found.state == "starting"
            await found.runners[number].end(KILLED)
        assert len(found.runners) == 3
        assert found.state.startswith("failed: the runner ended while it loaded the model: killed")
        assert found.metrics.lost == ["crashed", "crashed", "load_failed"]


async def test_runners_that_crash_by_themselves_are_started_ever_more_rarely() -> None:
    async with pooling() as found:
        for number in range(3):
            await found.runners[number].load()
            await found.runners[number].end(CRASHED)
        waiting = await found.ask()
        assert (len(found.runners), found.state) == (3, "recovering: exit code 7")
        await found.pass_time(FIRST_BACKOFF_S)
        await found.runners[3].load()
        await found.runners[3].end(CRASHED)  # with a request: it may have been that
        await found.runners[4].load()
        await found.runners[4].answer(b"a")
        assert waiting.outcome == b"a"


async def test_a_load_may_take_so_long() -> None:
    async with pooling(manifest(limits=Limits(load_timeout_s=5))) as found:
        await found.pass_time(4.9)
        assert found.state == "starting"
        await found.pass_time(0.1)
        assert found.state == "failed: loading took longer than load_timeout_s = 5"
        assert found.runners[0].is_gone


async def test_a_machine_that_has_no_room_for_a_process_is_told() -> None:
    async with pooling() as found:
        await found.runners[0].load()
        found.refusal = OSError("no room")
        await found.runners[0].end(CRASHED)
        assert found.state == "failed: no room"
        found.refusal = None
        await found.pass_time(FIRST_BACKOFF_S)
        await found.runners[1].load()
        assert found.state == "ready"


async def test_a_folder_that_was_changed_is_not_taken_into_service() -> None:
    async with serving() as found:
        await found.runners[0].end(CRASHED)
        await found.runners[1].load(digest="sha256:1")
        assert "the model folder has changed" in found.state
        assert found.pool.digest == "sha256:0"


async def test_who_waits_for_the_first_load_is_told_of_its_end() -> None:
    async with pooling() as found:
        settled = asyncio.create_task(found.pool.settled())
        served = asyncio.create_task(found.pool.wait_until(is_serving=True))
        await settle()
        assert not settled.done()
        await found.runners[0].fail("no such file")
        assert (settled.done(), served.done()) == (True, False)
        await found.pass_time(FIRST_BACKOFF_S)
        await found.runners[1].load()
        assert served.done()


# How many runners there are.


async def test_another_runner_is_started_where_requests_wait_and_ended_when_it_idles() -> None:
    async with serving(UP_TO_TWO) as found:
        for number in range(3):
            await found.ask(number)
        await found.pass_time(GROW_AFTER_S + TICK_S, step=TICK_S)
        assert len(found.runners) == 2
        await found.pass_time(10 * TICK_S, step=TICK_S)
        assert len(found.runners) == 2  # one is on its way already
        await found.runners[1].load()
        assert inputs_of(found.runners[1]) == [[b"[1]"]]
        await found.pass_time(10 * TICK_S, step=TICK_S)
        assert len(found.runners) == 2  # there may be no more
        for runner in (found.runners[1], *reversed(found.runners)):
            await runner.answer(b"a")
        await found.pass_time(11, step=1)
        (leaving,) = (runner for runner in found.runners if runner.is_stopped)
        await leaving.end(0)
        await found.pass_time(11, step=1)
        assert (found.told[-1].runners, found.told[-1].runners_ready) == (1, 1)


async def test_a_runner_that_was_to_help_and_cannot_is_not_tried_again() -> None:
    async with serving(UP_TO_TWO) as found:
        for number in range(2):
            await found.ask(number)
        await found.pass_time(GROW_AFTER_S + TICK_S, step=TICK_S)
        await found.runners[1].fail("no memory")
        assert (found.state, found.told[-1].runners) == ("ready", 1)
        assert len(found.runners) == 2


async def test_a_model_that_may_sleep_wakes_when_it_is_asked_and_falls_asleep_again() -> None:
    async with pooling(SLEEPY, may_sleep=True) as found:
        assert (found.state, found.runners) == ("asleep", [])
        call = await found.ask()
        await found.runners[0].load()
        await found.runners[0].answer(b"a")
        assert (found.state, call.outcome) == ("ready", b"a")
        await found.pass_time(11, step=1)
        assert found.runners[0].is_stopped
        await found.runners[0].end(0)
        assert found.state == "asleep"
        await found.ask()
        await found.runners[1].load(digest="sha256:1")  # nothing of the old one is left
        assert (found.state, found.pool.digest) == ("ready", "sha256:1")


async def test_a_request_that_comes_while_the_last_runner_leaves_wakes_the_model_again() -> None:
    async with pooling(SLEEPY, may_sleep=True) as found:
        await found.ask(1)
        await found.runners[0].load()
        await found.runners[0].answer(b"a")
        await found.pass_time(11, step=1)
        assert found.runners[0].is_stopped
        call = await found.ask(2)
        await found.runners[0].end(0)
        await found.runners[1].load()
        await found.runners[1].answer(b"b")
        assert call.outcome == b"b"


@pytest.mark.parametrize(
    ("batching", "warm_up_s", "bundles"),
    [
        (Batching(), 0.001, 4),
        (Batching(max_batch_size=1), 0.001, 2),
        (Batching(max_batch_size=1), 0.1, 1),
    ],
)
async def test_as_many_bundles_are_wanted_as_keep_the_runners_busy(
    batching: Batching, warm_up_s: float, bundles: int
) -> None:
    async with pooling(manifest(batching=batching)) as found:
        await found.runners[0].load(warm_up_s=warm_up_s)
        assert found.pool.wanted_bundles == bundles


# The end.


async def test_a_pool_that_stops_lets_what_runs_finish_and_refuses_the_rest() -> None:
    async with serving(ONE_BY_ONE) as found:
        (runner,) = found.runners
        running, waiting = await found.ask(1), await found.ask(2)
        found.pool.stop()
        found.pool.stop()
        assert (found.state, runner.is_stopped) == ("stopped", True)
        assert kind(waiting) is ShuttingDown
        assert kind(await found.ask(3)) is ShuttingDown
        await runner.answer(b"a")
        assert running.outcome == b"a"
        await runner.end(0)
        assert found.told[-1].runners == 0


async def test_a_runner_that_does_not_unload_is_killed_and_its_requests_are_answered() -> None:
    async with serving() as found:
        call = await found.ask()
        found.pool.stop()
        await found.pass_time(UNLOAD_GRACE_S)
        assert found.runners[0].is_gone
        assert kind(call) is ShuttingDown
        assert found.metrics.lost == []


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10])
async def test_a_pool_may_stop_while_a_runner_is_started_or_loads(turns: int) -> None:
    async with pooling(SLEEPY, may_sleep=True) as found:
        call = await found.ask()
        found.runners[0].kill()
        for _ in range(turns):
            await asyncio.sleep(0)
        found.pool.stop()
        await settle()
        assert kind(call) is ShuttingDown
        assert all(runner.is_gone for runner in found.runners)


async def test_a_failure_of_a_stopped_pool_changes_nothing() -> None:
    async with pooling() as found:
        found.pool.stop()
        await settle()
        assert (found.state, found.runners[0].is_gone) == ("stopped", True)


async def test_failures_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as found:
        await found.ask()
        failure = Failure("model_failed", "it raised")
        await found.runners[0].answer(failure)
    assert [r.message for r in caplog.records].count("model_failed") == 1
