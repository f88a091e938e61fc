"""The pool: what is asked of it is answered once, in batches, whatever happens to its runners."""

from __future__ import annotations

import asyncio

import pytest

from modelyard.core.call import StreamedCall
from modelyard.core.errors import (
    Cancelled,
    DeadlineExceeded,
    GivenUp,
    InvalidInput,
    ModelCrashed,
    ModelFailed,
    NotAcceptable,
)
from modelyard.core.manifest import Batching, Limits
from modelyard.core.messages import Batch, Request
from modelyard.core.names import Target
from modelyard.pool.output import Line
from modelyard.pool.pool import TICK_S
from tests.unit.asking import settle
from tests.unit.pooling import (
    BY_TWO,
    CONCURRENT,
    CRASHED,
    KILLED,
    ONE_BY_ONE,
    inputs_of,
    kind,
    manifest,
    pooling,
    serving,
)

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
        await found.pass_time(0.02)
        assert inputs_of(runner) == [[b"[1]"]]
        await runner.answer(b"a")
        await found.ask(2)
        await found.ask(3)  # it is full
        assert inputs_of(runner)[1:] == [[b"[2]", b"[3]"]]


async def test_a_full_batch_is_handed_over_while_one_runs_that_takes_a_while() -> None:
    async with serving(BY_TWO) as found:
        (runner,) = found.runners
        await found.ask(0)
        await found.pass_time(0.2)  # with what this process had to wait for a processor
        await runner.answer(b"a", model_s=0.02)
        for number in range(1, 6):
            await found.ask(number)
        assert inputs_of(runner)[1:] == [[b"[1]"], [b"[2]", b"[3]"]]
        ahead = runner.batches[2]
        assert isinstance(ahead, Batch)
        assert len(ahead.deadlines) == 2
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


async def test_suspects_run_alone_also_where_much_is_under_way() -> None:
    async with serving(CONCURRENT) as found:
        (runner,) = found.runners
        await found.ask(0)
        await found.ask(1, is_suspect=True)
        await found.ask(2)
        assert inputs_of(runner) == [[b"[0]"]]
        await runner.be_done(0, b"a")
        first = inputs_of(runner)[1:]
        assert len(first) == 1  # one of them alone, as long as a suspect waits or runs
        await runner.be_done(1, b"a")
        assert sorted(inputs_of(runner)[1:]) == [[b"[1]"], [b"[2]"]]
        await runner.be_done(2, b"a")


async def test_pieces_of_a_model_that_gives_none_are_refused() -> None:
    async with serving() as found:
        sent = Request("r", Target("iris", "1"), memoryview(b"[1]"), found.clock.now + 30)
        call = StreamedCall(sent, lambda _: None, lambda _: None)
        found.pool.submit(call)
        await settle()
        assert kind(call) is NotAcceptable
        assert not found.runners[0].batches


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


async def test_a_runner_that_goes_on_with_cancelled_jobs_is_ended_and_nobody_is_to_blame() -> None:
    async with serving(BY_TWO) as found:
        (runner,) = found.runners
        await found.ask(0)
        jobs = [await found.ask(number) for number in (1, 2)]
        waiting = await found.ask(3)
        await found.pass_time(1)
        await runner.answer(b"a")
        jobs[0].settle(Cancelled())
        await found.pass_time(11, step=0.1)
        assert (runner.is_left, runner.is_gone) == (False, False)  # somebody waits for the other
        jobs[1].settle(GivenUp("it left"))
        await found.pass_time(0.1)
        assert runner.is_left
        await found.pass_time(9.8, step=0.1)
        assert not runner.is_gone
        await found.pass_time(0.4, step=0.1)
        assert found.metrics.lost == ["cancelled"]
        await found.runners[1].load()
        await found.runners[1].answer(b"a")
        assert (waiting.outcome, waiting.blame) == (b"a", 0)


async def test_a_runner_whose_callers_have_left_goes_on() -> None:
    async with serving() as found:
        gone = await found.ask()
        gone.settle(GivenUp("it left"))
        await found.pass_time(20, step=0.1)
        (runner,) = found.runners
        assert (runner.is_left, runner.is_gone) == (False, False)


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
