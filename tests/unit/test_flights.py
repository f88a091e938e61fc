"""Single flight: who shares an execution, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from modelyard.core.errors import ModelFailed
from modelyard.dispatch.flights import Flights, Waiter
from tests.unit.asking import settle


def execution() -> Waiter:
    return asyncio.get_running_loop().create_future()


def ignore(_landed: Waiter) -> None:
    """Hear of a landing and do nothing."""


async def test_a_flight_can_be_found_until_it_lands() -> None:
    flights, running, landed = Flights(), execution(), list[Waiter]()
    flight = flights.start(b"a", running, landed.append)
    assert flights.find(b"a") is flight
    assert flights.find(b"b") is None
    running.set_result(b"[7]")
    await settle()
    assert flights.find(b"a") is None
    assert landed == [running]


async def test_everyone_aboard_gets_the_answer() -> None:
    running = execution()
    flight = Flights().start(b"a", running, ignore)
    waiters = [flight.join() for _ in range(3)]
    running.set_result(b"[7]")
    assert await asyncio.gather(*waiters) == [b"[7]"] * 3


async def test_everyone_aboard_gets_the_error() -> None:
    running = execution()
    flight = Flights().start(b"a", running, ignore)
    waiters = [flight.join() for _ in range(2)]
    running.set_exception(ModelFailed("no"))
    for waiter in waiters:
        with pytest.raises(ModelFailed):
            await waiter


async def test_who_joins_between_result_and_landing_gets_the_answer() -> None:
    running = execution()
    flight = Flights().start(b"a", running, ignore)
    running.set_result(b"[7]")
    assert await flight.join() == b"[7]"


async def test_a_cancelled_waiter_takes_nobody_along() -> None:
    running = execution()
    flight = Flights().start(b"a", running, ignore)
    gone, waiter = flight.join(), flight.join()
    gone.cancel()
    flight.leave(gone)
    assert not running.cancelled()
    running.set_result(b"[7]")
    assert await waiter == b"[7]"


async def test_the_last_to_leave_cancels_the_execution() -> None:
    flights, running, landed = Flights(), execution(), list[Waiter]()
    flight = flights.start(b"a", running, landed.append)
    first, last = flight.join(), flight.join()
    flight.leave(first)
    assert not running.cancelled()
    flight.leave(last)
    assert running.cancelled()
    await settle()
    assert flights.find(b"a") is None
    assert landed == [running]


async def test_leaving_what_has_landed_is_nothing() -> None:
    running = execution()
    flight = Flights().start(b"a", running, ignore)
    waiter = flight.join()
    running.set_result(b"[7]")
    await waiter
    flight.leave(waiter)
    assert running.result() == b"[7]"


async def test_an_older_flight_that_lands_leaves_a_newer_one_alone() -> None:
    flights, older, newer = Flights(), execution(), execution()
    flights.start(b"a", older, ignore)
    flight = flights.start(b"a", newer, ignore)
    older.set_result(b"[1]")
    await settle()
    assert flights.find(b"a") is flight


async def test_nobody_can_join_a_flight_whose_last_waiter_has_left() -> None:
    flights, running = Flights(), execution()
    flight = flights.start(b"a", running, ignore)
    flight.leave(flight.join())
    assert flights.find(b"a") is None
    assert running.cancelled()
