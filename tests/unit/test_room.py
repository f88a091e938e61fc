"""Room for connections: who has to go when there is none."""

from __future__ import annotations

import logging
import resource

import pytest

from modelyard.gateway.room import Room, room_of_process
from tests.unit.http import Gateway
from tests.unit.wire import request


class Guest:
    """A connection, as far as it matters here."""

    def __init__(self, quiet_since: float, *, is_idle: bool = True) -> None:
        self.quiet_since, self.is_idle, self.has_left = quiet_since, is_idle, False

    def leave(self) -> None:
        self.has_left = True


def test_those_that_have_been_idle_for_the_longest_time_go() -> None:
    guests = [Guest(number, is_idle=number % 2 == 0) for number in range(100)]
    assert Room(100).make(guests)
    assert [guest.quiet_since for guest in guests if guest.has_left] == [0, 2, 4, 6]


def test_who_is_busy_stays() -> None:
    guests = [Guest(number, is_idle=False) for number in range(3)]
    assert not Room(3).make(guests)
    assert not any(guest.has_left for guest in guests)


def test_a_crowd_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            room.make([Guest(0)])
    assert len(caplog.records) == 1


def test_the_limit_on_files_is_raised_and_some_are_spared() -> None:
    room = room_of_process()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard in (soft, resource.RLIM_INFINITY)
    assert 0 < room.most <= soft - 100


async def test_a_connection_too_many_makes_an_idle_one_go() -> None:
    gateway = Gateway(is_echoing=False)
    gateway.server.config.http_protocol_class.room = Room(2)  # type: ignore[attr-defined]
    busy, idle = gateway.connect(), gateway.connect()
    await busy.send(request())
    await idle.send(b"GET /page HT")
    late = gateway.connect()
    assert (busy.is_cut, idle.is_cut, late.is_cut) == (False, True, False)
    await late.send(request())
    assert gateway.connect().is_cut
    await gateway.answer(0)
    await gateway.answer(1)
    assert busy.codes == late.codes == ["ok"]
