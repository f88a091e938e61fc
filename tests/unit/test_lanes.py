"""What leaves when, in the gateway's bundles."""

from __future__ import annotations

import asyncio
import json
import time

from modelyard.core.call import Call
from modelyard.core.errors import GivenUp
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.transports.amqp.lanes import LARGEST_BUNDLE_BYTES, WINDOW, Bundle, Lane, Pending
from tests.unit.asking import settle

TARGET = Target("iris", "1")


class Departures:
    """A lane, what left on it, and the requests that a test adds."""

    def __init__(self, size: int = 4) -> None:
        self.bundles: list[Bundle] = []
        self.left = asyncio.Event()
        self.lane = Lane(TARGET, "normal", size=lambda _: size, depart=self._depart)
        self.added: list[Pending] = []

    def add(self, number: int, *, input_bytes: int = 2, rows: int = 0) -> None:
        for _ in range(number):
            raw = memoryview(json.dumps([0] * rows).encode() if rows else bytes(input_bytes))
            request = Request("id", TARGET, raw, time.monotonic() + 9)
            call = Call(request, lambda _: None)
            self.added.append(Pending(len(self.added), call, self.lane))
            self.lane.add(self.added[-1])

    def _depart(self, bundle: Bundle) -> None:
        self.bundles.append(bundle)
        self.left.set()

    @property
    def keys(self) -> list[list[int]]:
        return [list(bundle.requests) for bundle in self.bundles]


async def test_what_comes_in_one_turn_leaves_together() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(3)
    assert departures.keys == []
    await settle()
    assert departures.keys == [[0, 1, 2]]


async def test_a_bundle_holds_no_more_than_a_batch() -> None:
    departures = Departures(size=2)
    departures.lane.open()
    departures.add(5)
    await settle()
    assert departures.keys == [[0, 1], [2, 3], [4]]


async def test_instances_count_and_not_requests() -> None:
    departures = Departures(size=4)
    departures.lane.open()
    for rows in (3, 1, 3, 9, 2, 2):
        departures.add(1, rows=rows)
    await settle()
    assert departures.keys[:WINDOW] == [[0, 1], [2], [3]]
    departures.lane.arrived(departures.bundles[0])
    await settle()
    assert departures.keys[WINDOW:] == [[4, 5]]


async def test_a_bundle_holds_no_more_than_its_bytes() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(3, input_bytes=LARGEST_BUNDLE_BYTES)
    await settle()
    assert departures.keys == [[0], [1], [2]]


async def test_over_the_window_requests_wait_for_more_or_for_room() -> None:
    departures = Departures()
    departures.lane.open()
    for _ in range(WINDOW):
        departures.add(1)
        await settle()
    departures.add(1)
    await settle()
    assert len(departures.bundles) == WINDOW
    departures.lane.arrived(departures.bundles[0])
    await settle()
    assert departures.keys[WINDOW:] == [[WINDOW]]


async def test_over_the_window_a_full_bundle_leaves_at_once_and_another_soon() -> None:
    departures = Departures(size=2)
    departures.lane.open()
    for _ in range(WINDOW):
        departures.add(1)
        await settle()
    departures.add(3)
    await settle()
    assert departures.keys[WINDOW:] == [[3, 4]]
    departures.left.clear()
    await departures.left.wait()
    assert departures.keys[-1] == [5]


async def test_who_is_gone_does_not_leave() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(2)
    departures.added[0].call.settle(GivenUp("left"))
    await settle()
    assert departures.keys == [[1]]


async def test_nothing_leaves_while_closed_and_what_was_sent_goes_first() -> None:
    departures = Departures()
    departures.lane.open()
    departures.add(2)
    await settle()
    departures.lane.close(departures.added[:2])
    departures.add(1)
    await settle()
    assert len(departures.bundles) == 1
    departures.lane.open()
    await settle()
    assert departures.keys[1:] == [[0, 1, 2]]
