"""The pool: what is asked of it is answered once, whatever happens to its runners."""

from __future__ import annotations

import asyncio

import pytest

from modelyard.core.call import Call
from modelyard.core.errors import (
    DeadlineExceeded,
    Failure,
    GivenUp,
    InvalidInput,
    ModelCrashed,
    ModelFailed,
    ModelNotReady,
    ShuttingDown,
)
from modelyard.core.manifest import Batching, Limits, Scaling
from modelyard.pool.output import Line
from modelyard.pool.pool import TICK_S
from modelyard.pool.runners import GROW_AFTER_S
from modelyard.pool.slot import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, UNLOAD_GRACE_S
from tests.unit.asking import settle
from tests.unit.pooling import CRASHED, KILLED, inputs_of, manifest, pooling, serving

ONE_BY_ONE = manifest(batching=Batching(max_batch_size=1))
BY_TWO = manifest(batching=Batching(max_batch_size=2))
UP_TO_TWO = manifest(scaling=Scaling(max_runners=2, idle_s=10), batching=Batching(max_batch_size=1))
SLEEPY = manifest(scaling=Scaling(scale_to_zero=True, idle_s=10))


def kind(call: Call) -> type | None:
    return None if call.outcome is None else type(call.outcome)


# Batches.


async def test_what_comes_together_runs_together() -> None:
    async with serving() as found:
        (runner,) = found.runners
        calls = await asyncio.gather(*(found.ask(number) for number in range(3)))
        assert inputs_of(runner) == [[b"[0]", b"[1]", b"[2]"]]
        found.clock.now += 0.03
        await runner.answer(b"a", b"b", b"c")
        assert [call.outcome for call in calls] == [b"a", b"b", b"c"]
        assert found.pool.instance_s == pytest.approx(0.03 / 3)


async def test_what_comes_while_a_batch_runs_waits_for_its_end() -> None:
    async with serving(BY_TWO) as found:
        (runner,) = found.runners
        for number in range(4):
            await found.ask(number)
        await found.pass_time(0.5)
        await runner.answer(b"a")
        await runner.answer(b"b", b"c")
        assert inputs_of(runner) == [[b"[0]"], [b"[1]", b"[2]"], [b"[3]"]]
        assert found.metrics.waits_s[1] == pytest.approx([0.5, 0.5])


async def test_requests_that_came_while_the_model_loaded_run_once_it_has() -> None:
    async with pooling() as found:
        assert found.state == "starting"
        call = await found.ask()
        await found.runners[0].load()
        await found.runners[0].answer(b"a")
        assert (found.state, call.outcome, found.pool.digest) == ("ready", b"a", "sha256:0")


async def test_a_batch_may_wait_to_fill() -> None:
    model = manifest(batching=Batching(max_batch_size=2, batch_wait_ms=100))
    async with serving(model) as found:
        (runner,) = found.runners
        await found.ask(1)
        await found.pass_time(0.09)
        assert runner.batches == []
        await found.pass_time(0.01)
        assert inputs_of(runner) == [[b"[1]"]]
        await runner.answer(b"a")
        await found.ask(2)
        await found.ask(3)  # it is full
        assert inputs_of(runner)[1:] == [[b"[2]", b"[3]"]]


async def test_a_full_batch_is_handed_over_while_one_runs_that_takes_a_while() -> None:
    async with serving(BY_TWO) as found:
        (runner,) = found.runners
        await found.ask(0)
        await found.pass_time(0.02)
        await runner.answer(b"a")  # so long do batches take
        for number in range(1, 6):
            await found.ask(number)
        assert inputs_of(runner)[1:] == [[b"[1]"], [b"[2]", b"[3]"]]
        assert len(runner.batches[2].deadlines) == 2
        await found.pass_time(0.02)
        await runner.answer(b"b")
        assert inputs_of(runner)[3:] == [[b"[4]", b"[5]"]]


async def test_what_was_handed_over_early_may_be_too_late_when_its_turn_comes() -> None:
    async with serving(BY_TWO) as found:
        (runner,) = found.runners
        await found.ask(0)
        await found.pass_time(0.02)
        await runner.answer(b"a")
        await found.ask(1, timeout_s=100)
        early = [await found.ask(number, timeout_s=1) for number in (2, 3)]
        assert len(runner.batches) == 3
        await found.pass_time(1)
        await found.pass_time(TICK_S)
        assert [kind(call) for call in early] == [DeadlineExceeded] * 2
        await runner.answer(b"b")
        late = DeadlineExceeded("the deadline passed while another batch ran").to_failure()
        await runner.answer(late, b"c")
        assert (found.metrics.expirations, found.metrics.late) == (2, 1)


async def test_failures_come_back_as_what_they_were() -> None:
    async with serving() as found:
        calls = await asyncio.gather(*(found.ask(number) for number in range(2)))
        failed = ModelFailed("it raised").to_failure()
        await found.runners[0].answer(failed, InvalidInput("no").to_failure())
        assert [kind(call) for call in calls] == [ModelFailed, InvalidInput]
        assert found.runners[0].is_read  # what it logged of them is read before they are answered


async def test_a_call_that_was_given_up_does_not_run() -> None:
    async with serving(ONE_BY_ONE) as found:
        (runner,) = found.runners
        first, second = await found.ask(1), await found.ask(2)
        for call in (first, second):
            call.settle(GivenUp("nobody waits"))
        await runner.answer(b"a")
        await settle()
        assert inputs_of(runner) == [[b"[1]"]]
        assert found.metrics.late == 1


async def test_what_waits_too_long_is_answered_so() -> None:
    async with serving(ONE_BY_ONE) as found:
        await found.ask(1, timeout_s=100)
        call = await found.ask(2, timeout_s=1)
        suspect = await found.ask(3, timeout_s=1, is_suspect=True)
        await found.pass_time(1 + TICK_S)
        assert [kind(call), kind(suspect)] == [DeadlineExceeded, DeadlineExceeded]
        assert found.metrics.expirations == 2


async def test_suspects_run_alone_in_turn_with_batches() -> None:
    async with serving() as found:
        (runner,) = found.runners
        await found.ask(0)
        given_up = await found.ask(4, is_suspect=True)
        late = await found.ask(5, is_suspect=True, timeout_s=0.01)
        for number in (1, 2):
            await found.ask(number, is_suspect=True)
            await found.ask(10 + number)
        given_up.settle(GivenUp("nobody waits"))
        await found.pass_time(0.02)
        for _ in range(4):
            await runner.answer(*[b"a"] * len(runner.batches[-1].inputs))
        assert sorted(inputs_of(runner)[1:]) == [[b"[11]", b"[12]"], [b"[1]"], [b"[2]"]]
        assert kind(late) is DeadlineExceeded


# Runners that end.


async def test_a_request_whose_runner_crashed_runs_again_alone_and_is_given_up_then() -> None:
    async with serving() as found:
        calls = await asyncio.gather(*(found.ask(number) for number in range(2)))
        await found.runners[0].end(CRASHED)
        assert found.state == "recovering: exit code 7"
        assert found.metrics.lost == ["crashed"]
        await found.runners[1].load()
        assert len(found.runners[1].batches[0].inputs) == 1
        await found.runners[1].end(CRASHED)
        await found.runners[2].load()
        await found.runners[2].answer(b"a")
        assert sorted(str(kind(call)) for call in calls) == sorted(map(str, [ModelCrashed, bytes]))
        assert found.state == "ready"


async def test_a_request_whose_runner_was_killed_has_more_tries() -> None:
    async with serving() as found:
        call = await found.ask()
        for number in range(4):
            assert call.outcome is None
            await found.runners[number].end(KILLED)
            await found.runners[number + 1].load()
        assert kind(call) is ModelCrashed
        assert found.metrics.lost == ["killed"] * 4


async def test_a_request_that_is_late_when_its_runner_ends_is_answered_so() -> None:
    async with serving() as found:
        call = await found.ask(timeout_s=1)
        gone = await found.ask(2)
        await found.pass_time(1)
        await found.runners[0].end(CRASHED)
        assert kind(call) is DeadlineExceeded
        await found.runners[1].load()
        await found.runners[1].answer(b"a")
        assert gone.outcome == b"a"


async def test_what_a_runner_had_not_begun_is_not_to_blame() -> None:
    async with serving(BY_TWO) as found:
        (runner,) = found.runners
        await found.ask(0)
        await found.pass_time(0.02)
        await runner.answer(b"a")
        running = await found.ask(1)
        ahead = [await found.ask(number) for number in (2, 3)]
        running.settle(GivenUp("nobody waits"))
        await runner.end(CRASHED)
        await found.runners[1].load()
        assert inputs_of(found.runners[1]) == [[b"[2]", b"[3]"]]
        assert [call.blame for call in ahead] == [0, 0]


async def test_a_hung_runner_is_ended_and_the_next_has_more_patience() -> None:
    async with serving(manifest(limits=Limits(timeout_s=100))) as found:
        await found.ask(timeout_s=1)
        patient = await found.ask(2, timeout_s=50)
        await found.pass_time(1.9, step=0.1)
        assert not found.runners[0].is_gone
        await found.pass_time(0.2, step=0.1)
        assert found.metrics.lost == ["hung"]
        await found.runners[1].load()
        assert inputs_of(found.runners[1]) == [[b"[2]"]]
        await found.runners[1].answer(b"a")
        assert patient.outcome == b"a"


async def test_an_idle_runner_that_crashes_is_replaced_and_nobody_notices() -> None:
    async with serving() as found:
        await found.runners[0].end(CRASHED)
        call = await found.ask()
        await found.runners[1].load()
        await found.runners[1].answer(b"a")
        assert call.outcome == b"a"


async def test_a_line_that_is_printed_is_logged_with_the_requests_that_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with serving() as found:
        await found.ask(5)
        found.runners[0].say(Line("hello"))
    (record,) = (record for record in caplog.records if record.message == "model_output")
    assert (record.__dict__["model"], record.__dict__["ids"]) == ("iris/1", ["r5"])


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
