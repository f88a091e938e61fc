"""One timer fails what still waits when its deadline passes."""

from __future__ import annotations

import asyncio
import time

import pytest

from modelyard.core.call import Call
from modelyard.core.errors import DeadlineExceeded
from modelyard.dispatch.expiry import Expiry
from tests.unit.asking import Clock, request, settle


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def due(deadline: float) -> Call:
    return Call(request(deadline=deadline), lambda _: None)


async def test_each_is_failed_after_its_own_deadline(clock: Clock) -> None:
    expiry, soon, later = Expiry(clock), due(clock.now + 1), due(clock.now + 2)
    expiry.watch(later)
    expiry.watch(soon)
    clock.now += 0.99
    await settle()
    assert not soon.is_settled
    clock.now += 0.05
    await settle()
    assert isinstance(soon.outcome, DeadlineExceeded)
    assert not later.is_settled
    clock.now += 1
    await settle()
    assert isinstance(later.outcome, DeadlineExceeded)


async def test_what_was_answered_keeps_its_answer(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    expiry, call = Expiry(clock), due(clock.now + 1)
    expiry.watch(call)
    call.settle(b"[7]")
    clock.now += 2
    await settle()
    assert call.outcome == b"[7]"
    assert caplog.records == []


async def test_what_was_forgotten_is_left_alone(clock: Clock) -> None:
    expiry, call = Expiry(clock), due(clock.now + 1)
    expiry.forget(call, expiry.watch(call))
    clock.now += 2
    await settle()
    assert not call.is_settled


async def test_the_timer_stops_when_nobody_waits_and_starts_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    start_timer = loop.call_later

    def note_timer(delay: float, callback: object, *_: object) -> asyncio.TimerHandle:
        assert callable(callback)
        timers.append(delay)
        return start_timer(delay, callback)

    monkeypatch.setattr(loop, "call_later", note_timer)
    expiry = Expiry(clock)
    for _ in range(2):
        call = due(clock.now + 1)
        expiry.watch(call)
        clock.now += 2
        await settle()
        assert call.is_settled
        timers.clear()
        clock.now += 2
        await settle()
        assert timers == []
