"""One timer fails what still waits when its deadline passes."""

from __future__ import annotations

import asyncio
import time

import pytest

from modelyard.core.errors import DeadlineExceeded
from modelyard.dispatch.expiry import Expiry, Waiter
from tests.unit.asking import Clock, settle


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def new_waiter() -> Waiter:
    return asyncio.get_running_loop().create_future()


async def test_each_is_failed_after_its_own_deadline(clock: Clock) -> None:
    expiry, soon, later = Expiry(), new_waiter(), new_waiter()
    expiry.watch(later, clock.now + 2)
    expiry.watch(soon, clock.now + 1)
    clock.now += 0.99
    await settle()
    assert not soon.done()
    clock.now += 0.05
    await settle()
    assert isinstance(soon.exception(), DeadlineExceeded)
    assert not later.done()
    clock.now += 1
    await settle()
    assert isinstance(later.exception(), DeadlineExceeded)


async def test_what_was_answered_keeps_its_answer(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    expiry, waiter = Expiry(), new_waiter()
    expiry.watch(waiter, clock.now + 1)
    waiter.set_result(b"[7]")
    clock.now += 2
    await settle()
    assert waiter.result() == b"[7]"
    assert caplog.records == []


async def test_what_was_forgotten_is_left_alone(clock: Clock) -> None:
    expiry, waiter = Expiry(), new_waiter()
    ticket = expiry.watch(waiter, clock.now + 1)
    expiry.forget(waiter, ticket)
    clock.now += 2
    await settle()
    assert not waiter.done()


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
    expiry = Expiry()
    for _ in range(2):
        waiter = new_waiter()
        expiry.watch(waiter, clock.now + 1)
        clock.now += 2
        await settle()
        assert waiter.done()
        timers.clear()
        clock.now += 2
        await settle()
        assert timers == []
