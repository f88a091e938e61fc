"""What leaves when, in the gateway's bundles."""

from __future__ import annotations

import asyncio
import json
import time
import weakref
from functools import partial

import pytest

from modelyard.core.call import Call
from modelyard.core.errors import GivenUp
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.transports.amqp import lanes
from modelyard.transports.amqp.lanes import (
    FILL_S,
    LARGEST_BUNDLE_BYTES,
    Bundle,
    Capacity,
    Lane,
    Pending,
)
from tests.unit.asking import settle

TARGET = Target("iris", "1")


class Departures:
    """A lane, what left on it, and the requests that a test adds."""

    def __init__(self, size: int = 4, runners: int = 1) -> None:
        self.sent: list[list[int]] = []
        self.left = asyncio.Event()
        capacity = Capacity(batch_size=size, runners=runners)
        self.lane = Lane(
            TARGET,
            "normal",
            capacity=lambda _: capacity,
            depart=self._depart,
            clock=time.monotonic,
            first_key=0,
        )
        self.added: list[Pending] = []

    def add(self, number: int, *, input_bytes: int = 2, rows: int = 0) -> None:
        for _ in range(number):
            raw = memoryview(json.dumps([0] * rows).encode() if rows else bytes(input_bytes))
            request = Request("id", TARGET, raw, time.monotonic() + 9)
            call = Call(request, lambda _: None)
            pending = Pending(len(self.added), call, self.lane)
            call.watch(partial(self._forget, pending))
            self.added.append(pending)
            self.lane.add(pending)

    def answer(self, number: int) -> None:
        """Answer this request."""
        bundle = self.added[number].bundle
        assert bundle is not None
        del bundle.requests[number]
        self.lane.release(bundle)

    def _forget(self, pending: Pending, _: Call) -> None:
        if pending.bundle is None:
            self.lane.remove(pending)

    def _depart(self, bundle: Bundle) -> None:
        self.sent.append(list(bundle.requests))
        self.left.set()


def wait_long(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a bundle wait so long to fill that a busy machine does not see it leave by itself."""
    for name in ("FILL_S", "SPARE_S"):
        monkeypatch.setattr(lanes, name, seconds)


async def test_what_comes_in_one_turn_leaves_together() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(3)
    assert departures.sent == []
    await settle()
    assert departures.sent == [[0, 1, 2]]


async def test_a_bundle_holds_no_more_than_a_batch() -> None:
    departures = Departures(size=2)
    departures.lane.open()
    departures.add(6)
    await settle()
    assert departures.sent == [[0, 1], [2, 3], [4, 5]]


async def test_instances_count_and_not_requests() -> None:
    departures = Departures(size=4)
    departures.lane.open()
    for rows in (3, 1, 3, 9, 2, 2):
        departures.add(1, rows=rows)
    await settle()
    assert departures.sent == [[0, 1], [2], [3], [4, 5]]


async def test_a_bundle_holds_no_more_than_its_bytes() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(3, input_bytes=LARGEST_BUNDLE_BYTES)
    await settle()
    assert departures.sent == [[0], [1], [2]]


async def test_as_many_leave_as_are_under_way_or_go_when_some_of_those_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_long(monkeypatch, 300)
    departures = Departures(size=64)
    departures.lane.open()
    departures.add(4)
    await settle()
    departures.add(3)
    await settle()
    assert departures.sent == [[0, 1, 2, 3]]
    departures.add(1)
    await settle()
    assert departures.sent[1:] == [[4, 5, 6, 7]]
    departures.add(2)
    await settle()
    for number in range(5):
        departures.answer(number)
    await settle()
    assert len(departures.sent) == 2
    departures.answer(5)
    await settle()
    assert departures.sent[2:] == [[8, 9]]


@pytest.mark.parametrize("runners", [1, 2])
async def test_a_full_bundle_leaves_at_once_and_another_soon(
    runners: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_long(monkeypatch, 1)
    departures = Departures(size=8, runners=runners)
    departures.lane.open()
    departures.add(8)
    await settle()
    departures.add(8)
    await settle()
    assert len(departures.sent) == 2
    departures.add(3)
    await settle()
    assert len(departures.sent) == 2
    departures.left.clear()
    await departures.left.wait()
    assert departures.sent[2:] == [[16, 17, 18]]


async def test_who_is_gone_does_not_leave() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(2)
    departures.added[0].call.settle(GivenUp("left"))
    await settle()
    assert departures.sent == [[1]]


async def test_who_is_gone_is_not_kept_behind_one_that_waits() -> None:
    departures = Departures()  # closed, as while the broker is away
    departures.add(3)
    kept = [weakref.ref(pending.call.request.input) for pending in departures.added]
    departures.added[1].call.settle(GivenUp("left"))
    departures.added.clear()
    assert [ref() is None for ref in kept] == [False, True, False]
    departures.lane.open()
    await settle()
    assert departures.sent == [[0, 2]]


async def test_nothing_leaves_while_closed_and_what_was_sent_goes_first() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(2)
    await settle()
    departures.lane.close(departures.added[:2])
    departures.add(1)
    await settle()
    assert len(departures.sent) == 1
    departures.lane.open()
    await settle()
    assert departures.sent[1:] == [[0, 1, 2]]


async def test_a_timer_that_is_due_with_a_full_turn_sends_nothing_after_the_close() -> None:
    departures, loop = Departures(size=64), asyncio.get_running_loop()
    departures.lane.open()
    departures.add(4)
    await settle()
    departures.add(1)  # too few: a timer is set

    def turn() -> None:
        loop.call_soon(lambda: departures.lane.close(departures.added))  # the session is lost
        departures.add(3)  # enough: they leave at the end of the turn, unless the timer is due

    def before() -> None:
        loop.call_soon(turn)
        time.sleep(2 * FILL_S)  # it is

    loop.call_soon(before)
    await settle()
    assert departures.sent == [[0, 1, 2, 3], [4, 5, 6, 7]]
    departures.lane.open()
    await settle()
    assert departures.sent[2:] == [list(range(8))]
