"""Single flight: who shares an shared, and for how long."""

from __future__ import annotations

from modelyard.core.call import Call, Outcome
from modelyard.core.errors import GivenUp, ModelFailed
from modelyard.dispatch.flights import Flight, Flights
from tests.unit.asking import request


def call() -> Call:
    """Give somebody who asks and does not listen."""
    return Call(request(), lambda _: None)


class Landings:
    """Flights, and what was told of their landings."""

    def __init__(self) -> None:
        self.flights: Flights[Call] = Flights()
        self.told: list[tuple[Outcome | None, list[Call]]] = []

    def start(self, key: bytes = b"a") -> Flight[Call]:
        return self.flights.start(key, request(), self._on_landed)

    def _on_landed(self, shared: Call, waiting: list[Call]) -> None:
        self.told.append((shared.outcome, waiting))


def test_a_flight_can_be_found_until_it_lands() -> None:
    landings = Landings()
    flight = landings.start()
    assert landings.flights.find(b"a", "normal") is flight
    assert landings.flights.find(b"b", "normal") is None
    flight.shared.settle(b"[7]")
    assert landings.flights.find(b"a", "normal") is None
    assert landings.told == [(b"[7]", [])]


def test_all_aboard_are_named_in_the_order_in_which_they_came() -> None:
    landings = Landings()
    flight, calls = landings.start(), [call() for _ in range(3)]
    for one in calls:
        flight.join(one)
    failed = ModelFailed("no")
    flight.shared.settle(failed)
    assert landings.told == [(failed, calls)]


def test_who_leaves_takes_nobody_along() -> None:
    landings = Landings()
    flight, gone, stays = landings.start(), call(), call()
    flight.join(gone)
    flight.join(stays)
    gone.settle(GivenUp("left"))
    assert not flight.shared.is_settled
    flight.shared.settle(b"[7]")
    assert landings.told == [(b"[7]", [stays])]


def test_the_last_to_leave_gives_the_shared_up() -> None:
    landings = Landings()
    flight, first, last = landings.start(), call(), call()
    flight.join(first)
    flight.join(last)
    first.settle(GivenUp("left"))
    assert not flight.shared.is_settled
    last.settle(GivenUp("left"))
    assert isinstance(flight.shared.outcome, GivenUp)
    assert landings.flights.find(b"a", "normal") is None
    assert [waiting for _, waiting in landings.told] == [[]]


def test_leaving_what_has_landed_is_nothing() -> None:
    landings = Landings()
    flight, one = landings.start(), call()
    flight.join(one)
    flight.shared.settle(b"[7]")
    one.settle(b"[7]")
    assert landings.told == [(b"[7]", [one])]


def test_an_older_flight_that_lands_leaves_a_newer_one_alone() -> None:
    landings = Landings()
    older = landings.start()
    newer = landings.start()
    older.shared.settle(b"[1]")
    assert landings.flights.find(b"a", "normal") is newer
