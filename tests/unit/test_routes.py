"""Routes: which version a request goes to, and which are taken out."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import DeadlineExceeded, ModelFailed, ModelNotFound, VersionNotFound
from modelyard.core.messages import Request, State
from modelyard.core.names import Target
from modelyard.core.routes import UNKNOWN, Guard, Route, Snapshot, Who
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Ask, ClientCall
from modelyard.dispatch.interfaces import CacheUse
from tests.unit.asking import announcement


def catalog(*versions: str, route: Route | None = None, **aliases: str) -> Catalog:
    made = Catalog(chance=random.Random(1))
    for version in versions:
        announce(made, version)
    if route is not None or aliases:
        routes = {"iris": route} if route else {}
        made.router.replace(Snapshot(1, routes, {"iris": aliases}))
    return made


def announce(made: Catalog, version: str, state: State = "ready") -> None:
    made.announce(announcement(Target("iris", version), state=state))


def asked(made: Catalog, times: int = 20_000, who: Who = UNKNOWN) -> Counter[str]:
    return Counter(made.resolve("iris", None, who).target.version for _ in range(times))


def test_weights_are_kept_within_a_point() -> None:
    found = asked(catalog("1", "2", "3", route=Route({"1": 70, "2": 25, "3": 5})))
    for version, weight in {"1": 70, "2": 25, "3": 5}.items():
        assert abs(found[version] / 200 - weight) < 1


@pytest.mark.parametrize("weights", [{}, {"1": 50}, {"1": 60, "2": 60}, {"1": -1, "2": 101}])
def test_weights_that_do_not_add_up_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"add up to 100|at least one|Expected `float`"):
        msgspec.convert({"weights": weights}, Route)


def test_a_version_gets_nothing_before_it_is_ready() -> None:
    made = catalog("1", route=Route({"1": 50, "2": 50}))
    assert asked(made, 100) == {"1": 100}
    announce(made, "2", "starting")
    assert asked(made, 100) == {"1": 100}
    announce(made, "2")
    assert set(asked(made, 100)) == {"1", "2"}
    announce(made, "1", "failed")
    assert asked(made, 100) == {"2": 100}
    announce(made, "2", "failed")
    assert len(asked(made, 10)) == 1  # the default answers why it does not serve


def test_a_model_is_described_by_the_version_that_gets_most() -> None:
    made = catalog("1", "2", "3", route=Route({"1": 20, "2": 80}), prod="1")
    assert {made.stable("iris", None).target.version for _ in range(50)} == {"2"}
    assert made.stable("iris", "prod").target.version == "1"
    shares = {entry.target.version: entry.share for entry in made.entries()}
    assert shares == pytest.approx({"1": 0.2, "2": 0.8, "3": 0})
    announce(made, "2", "failed")
    assert made.stable("iris", None).target.version == "1"
    made.router.replace(Snapshot(2))
    assert [entry.share for entry in made.entries()] == [1, 0, 0]
    with pytest.raises(ModelNotFound):
        made.stable("tulip", None)


@given(st.text(max_size=20), st.floats(1, 99), st.floats(1, 99))
def test_a_caller_stays_with_a_version_that_gets_more_weight(
    owner: str, first: float, second: float
) -> None:
    few, more = sorted((first, second))
    who = Who(owner=owner or "x")
    before, after = (
        catalog("1", "2", route=Route({"1": 100 - weight, "2": weight}, sticky="owner"))
        .resolve("iris", None, who)
        .target.version
        for weight in (few, more)
    )
    if more < 50:
        assert (before, after) != ("2", "1")


def test_a_route_sticks_to_the_owner_or_to_the_header() -> None:
    half = {"1": 50.0, "2": 50.0}
    by_owner = catalog("1", "2", route=Route(half, sticky="owner"))
    by_header = catalog("1", "2", route=Route(half, sticky="header"))
    for number in range(20):
        who = Who(owner=f"team {number}", header="same")
        assert len(asked(by_owner, 20, who)) == 1
        assert asked(by_header, 1, who) == asked(by_header, 1, Who(header="same"))
    versions = {by_owner.resolve("iris", None, Who(owner=str(n))).target.version for n in range(20)}
    assert versions == {"1", "2"}


def test_an_alias_is_a_version() -> None:
    made = catalog("1", "2", production="1", gone="7")
    assert made.resolve("iris", "production").target.version == "1"
    assert made.resolve("iris", None).target.version == "2"
    for unknown in ("gone", "candidate"):
        with pytest.raises(VersionNotFound, match="it has 2, 1, production"):
            made.resolve("iris", unknown)


def test_models_without_a_route_are_as_before() -> None:
    made = catalog("1", "2", route=Route({"1": 100}))
    assert asked(made, 10) == {"1": 10}
    made.router.replace(Snapshot(2))
    assert asked(made, 10) == {"2": 10}
    made.forget(Target("iris", "2"))
    assert asked(made, 10) == {"1": 10}


# Guards.


FAILURES = {"model_failed": ModelFailed("it raised"), "deadline_exceeded": DeadlineExceeded("late")}


def answers(
    made: Catalog,
    version: str,
    count: int,
    code: str = "ok",
    s: float = 0.01,
    *,
    cache_use: CacheUse = "miss",
    **asked_for: Any,
) -> None:
    entry = made.find(Target("iris", version))
    assert entry is not None
    assert entry.guarded is not None
    for _ in range(count):
        ask = Ask("iris", msgspec.Raw(b"[1]"), **asked_for)
        sent = Request("id", entry.target, memoryview(b"[1]"), 0.0, "normal", "json")
        call = ClientCall(sent, entry, lambda _: None)
        entry.guarded.watch(ask, call, iter((0.0, s)).__next__)
        call.cache_use = cache_use
        call.settle(FAILURES.get(code, b"[1]"))


CANARY = Route({"1": 90, "2": 10}, guard=Guard(errors=0.1, slower=3, over=100))


def test_a_version_that_fails_is_taken_out_within_a_hundred_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = catalog("1", "2", route=CANARY)
    answers(made, "1", 900)
    for number in range(100):
        answers(made, "2", 1, "model_failed" if number % 3 == 0 else "ok")
    assert asked(made, 100) == {"1": 100}
    assert "version_taken_out" in caplog.text
    made.router.replace(Snapshot(2, {"iris": Route({"1": 50, "2": 50})}))
    assert set(asked(made, 100)) == {"1", "2"}


def test_a_version_that_is_slower_is_taken_out() -> None:
    made = catalog("1", "2", route=CANARY)
    answers(made, "1", 900)
    answers(made, "2", 100, s=0.05)
    assert asked(made, 100) == {"1": 100}


def test_nothing_is_judged_by_a_few_answers_of_the_main_version() -> None:
    made = catalog("1", "2", route=CANARY)
    answers(made, "1", 19)
    answers(made, "2", 100, s=0.05)
    assert set(asked(made, 200)) == {"1", "2"}
    answers(made, "1", 1)
    answers(made, "2", 10, s=0.05)
    assert asked(made, 200) == {"1": 200}


def test_a_version_as_good_as_the_main_one_stays_and_the_main_one_always_does() -> None:
    made = catalog("1", "2", route=CANARY)
    for _ in range(20):
        answers(made, "1", 9)
        answers(made, "1", 1, "model_failed")
        answers(made, "2", 9, s=0.02)
        answers(made, "2", 1, "model_failed")
    answers(made, "1", 200, "model_failed")
    assert set(asked(made, 200)) == {"1", "2"}


@pytest.mark.parametrize(
    ("asked_for", "cache_use", "code"),
    [
        ({}, "hit", "ok"),
        ({}, "coalesced", "ok"),
        ({"model_version": "2"}, "miss", "model_failed"),
        ({"priority": "low"}, "miss", "model_failed"),
        ({"timeout_s": 0.01}, "miss", "deadline_exceeded"),
    ],
)
def test_answers_that_say_nothing_of_a_version_are_not_counted(
    asked_for: dict[str, Any], cache_use: CacheUse, code: str
) -> None:
    made = catalog("1", "2", route=CANARY)
    answers(made, "1", 900)
    answers(made, "2", 100, code, s=0.05, cache_use=cache_use, **asked_for)
    assert set(asked(made, 100)) == {"1", "2"}
