"""What a pool records of traced requests: where they waited, what they ran with, how it ended."""

from __future__ import annotations

from modelyard.core.call import Call
from modelyard.core.errors import ModelCrashed
from modelyard.core.messages import Begin
from modelyard.core.spans import parent_of
from modelyard.core.trail import Trail
from tests.unit.pooling import BY_TWO, CONCURRENT, CRASHED, ONE_BY_ONE, Pooling, kind, serving


def trail(number: int, *, attempt: int = 1) -> Trail:
    """Give the trail of a request that a gateway got at 0.5 s, in a trace of its own."""
    return Trail("", f"00-{number:032x}-{7:016x}-01", 0.5, attempt)


def of(pooling: Pooling, number: int) -> list[tuple[str, str]]:
    """Give the spans of a trace, in the order of their ends, each with its error."""
    trace = f"{number:032x}"
    return [(one.name, one.error) for one in pooling.spans if one.context.trace_id == trace]


async def test_requests_of_a_batch_have_spans_that_are_linked() -> None:
    async with serving(BY_TWO, is_traced=True) as pooling:
        (runner,) = pooling.runners
        await pooling.ask(9)
        for number in (1, 2):
            await pooling.ask(number, trail=trail(number))
        await pooling.pass_time(2)
        await runner.answer(b"[9]")
        await pooling.pass_time(3)
        await runner.answer(b"[1]", b"[2]", model_s=0.25)
        for number in (1, 2):
            assert of(pooling, number) == [
                ("wait", ""),
                ("batch iris/1", ""),
                ("queue iris/1", ""),
                ("process iris/1", ""),
            ]
        assert {one.context.trace_id for one in pooling.spans} == {f"{n:032x}" for n in (1, 2)}
        batches = [one for one in pooling.spans if one.name == "batch iris/1"]
        first, second = batches
        assert (first.links, second.links) == ((second.context,), (first.context,))
        assert first.ended - first.began == 3
        assert first.attributes["modelyard.batch.requests"] == 2
        assert first.attributes["modelyard.model_seconds"] == 0.25
        waits = [one for one in pooling.spans if one.name == "wait"]
        assert {one.ended - one.began for one in waits} == {2}
        processes = [one for one in pooling.spans if one.name == "process iris/1"]
        assert {one.parent_id for one in (*batches, *waits)} == {
            one.context.span_id for one in processes
        }
        given = runner.batches[-1].origins
        passed = [parent_of(one.trail.trace) for one in given]
        assert [one and one.context for one in passed] == [one.context for one in batches]


async def test_what_a_runner_took_with_it_is_tried_again_and_told() -> None:
    async with serving(ONE_BY_ONE, is_traced=True) as pooling:
        call = await pooling.ask(1, trail=trail(1, attempt=2))
        for number in range(2):
            assert call.outcome is None
            await pooling.runners[number].end(CRASHED)
            await pooling.runners[number + 1].load()
        assert kind(call) is ModelCrashed
        found = of(pooling, 1)
        tries = [error for name, error in found if name == "batch iris/1"]
        assert len(tries) == 2
        assert all(error.startswith("the runner ended: ") for error in tries)
        assert found[-1] == ("process iris/1", "model_crashed")
        attempts = [
            one.attributes["modelyard.attempt"]
            for one in pooling.spans
            if one.name == "batch iris/1"
        ]
        assert attempts == [2, 3]


async def test_batches_side_by_side_have_their_own_spans() -> None:
    async with serving(CONCURRENT, is_traced=True) as pooling:
        calls: list[Call] = [await pooling.ask(number, trail=trail(number)) for number in (1, 2)]
        (runner,) = pooling.runners
        assert all(isinstance(batch, Begin) for batch in runner.batches)
        await runner.be_done(1, b"[2]")
        assert [call.is_settled for call in calls] == [False, True]
        assert of(pooling, 1) == []
        assert [name for name, _ in of(pooling, 2)][:2] == ["wait", "batch iris/1"]
        await runner.be_done(0, b"[1]")
        assert of(pooling, 1) == of(pooling, 2)


async def test_a_trace_that_is_none_leaves_no_spans() -> None:
    async with serving(ONE_BY_ONE, is_traced=True) as pooling:
        for wrong in ("", "00-0-0-01", f"ff-{1:032x}-{1:016x}-01"):
            call = await pooling.ask(1, trail=Trail("", wrong, 0.5))
            await pooling.runners[0].answer(b"[1]")
            assert call.outcome == b"[1]"
        assert pooling.spans == []
