"""Limits of callers: meters, accounts, and how gateways divide them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from modelyard.access.accounts import Account, Accounts
from modelyard.access.audit import Act, Audit
from modelyard.access.keyring import Key, Principal
from modelyard.access.limits import Limit, Meter, Used
from modelyard.access.shares import Demands, Shares
from modelyard.access.usage import Bookkeeper, DayOfUsage
from modelyard.core.call import Outcome
from modelyard.core.errors import ModelFailed, RateLimited
from modelyard.core.messages import Request
from modelyard.core.names import Target

DAY = 86_400
NOON = 1_800_000_000 // DAY * DAY + DAY / 2  # of 2027-01-15


class Now:
    """A clock that is set by hand."""

    def __init__(self, time: float = NOON) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


def meter(now: Now | None = None, *, gateways: int = 1, **limit: Any) -> Meter:
    clock = now or Now()
    return Meter("k#0", Limit(**limit), gateways=gateways, clock=clock, wall_clock=clock)


def account(*limits: Limit, now: Now | None = None) -> Account:
    return accounts(now).of(principal(*limits))


def accounts(now: Now | None = None) -> Accounts:
    clock = now or Now()
    return Accounts(gateways=1, clock=clock, wall_clock=clock)


def principal(*limits: Limit, name: str = "k") -> Principal:
    return Principal(Key(id=name, digest="", owner="team", scopes=("admin",), limits=limits))


class Answer:
    """A request that was answered."""

    def __init__(
        self,
        model: str = "iris",
        instances: int = 1,
        outcome: Outcome | None = b"[0]",
        weight: float = 3.0,
    ) -> None:
        self.request = Request("id", Target(model, "1"), memoryview(b"[]"), 0.0)
        self.entry = (model, weight)
        self.outcome = outcome
        self.instances = instances
        self.instance_s = 0.25
        self.weight = weight


def cost_of(**costs: float) -> Any:
    return lambda count: costs.get(count, 1)


def how_many(one: Meter, tries: int) -> int:
    """How many of so many requests are let in, and answered at once."""
    let_in = 0
    for _ in range(tries):
        with contextlib.suppress(RateLimited):
            one.enter(1)
            one.in_flight -= 1
            let_in += 1
    return let_in


def test_a_rate_allows_a_burst_and_then_as_many_as_it_says() -> None:
    now = Now()
    one = meter(now, rate=2, burst=4)
    assert how_many(one, 4) == 4
    with pytest.raises(RateLimited, match="2 times per second") as caught:
        one.enter(1)
    assert caught.value.retry_after_s == 1
    assert caught.value.headers == {
        "ratelimit-policy": '"rate";q=4;w=2',
        "ratelimit": '"rate";r=0;t=1',
    }
    let_in = 0
    for _ in range(100):  # ten seconds, ten times a second
        now.time += 0.1
        let_in += how_many(one, 1)
    assert let_in in (19, 20)  # the last may fall on the other side of a tenth


def test_a_pause_fills_no_more_than_the_burst() -> None:
    now = Now()
    one = meter(now, rate=0.1)
    now.time += 1000
    one.enter(1)
    with pytest.raises(RateLimited) as caught:
        one.enter(1)
    assert caught.value.retry_after_s == 10


def test_a_request_of_more_than_the_burst_is_let_in_and_paid_for() -> None:
    now = Now()
    one = meter(now, rate=10, count="instances")
    one.enter(100)
    now.time += 8
    with pytest.raises(RateLimited, match="10 instances per second") as caught:
        one.enter(1)
    assert caught.value.retry_after_s == 2
    now.time += 1.5
    one.enter(1)


def test_requests_in_flight_are_counted_until_they_leave() -> None:
    one = meter(in_flight=2)
    one.enter(1)
    one.enter(1)
    with pytest.raises(RateLimited, match="2 requests in flight") as caught:
        one.enter(1)
    assert caught.value.headers["ratelimit-policy"].endswith('qu="concurrent-requests"')
    one.in_flight -= 1
    one.enter(1)


@pytest.mark.parametrize(
    ("quota", "left_s"), [({"per_day": 3}, DAY / 2), ({"per_month": 3}, 16.5 * DAY)]
)
def test_a_quota_ends_with_its_day_or_month(quota: dict[str, Any], left_s: float) -> None:
    one = meter(None, **quota)
    assert how_many(one, 5) == 3
    with pytest.raises(RateLimited, match="may ask 3 times per") as caught:
        one.enter(1)
    assert caught.value.retry_after_s == left_s


@pytest.mark.parametrize(
    "limit",
    [{"rate": 0}, {"in_flight": -1}, {"burst": 3}, {}, {"rate": 1, "models": "I/"}, {"per_day": 0}],
)
def test_what_is_no_limit_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"positive|needs rate|a limit says|not a pattern"):
        Limit(**limit)


# Accounts.


def test_a_limit_holds_for_its_models_and_one_that_refuses_undoes_the_others() -> None:
    one = account(Limit(rate=1, burst=10), Limit(models="iris*", in_flight=1))
    one.enter("iris", cost_of())
    for _ in range(20):
        with pytest.raises(RateLimited, match="in flight"):
            one.enter("iris", cost_of())
    for _ in range(9):
        one.enter("other", cost_of())
    with pytest.raises(RateLimited, match="per second"):
        one.enter("other", cost_of())


def test_instances_that_were_not_counted_before_are_paid_for_after() -> None:
    one = account(Limit(count="instances", rate=100))
    entered = one.enter("iris", cost_of(instances=16))
    one.leave(entered, Answer(instances=500))
    with pytest.raises(RateLimited) as caught:
        one.enter("iris", cost_of(instances=1))
    assert caught.value.retry_after_s == 5


def test_what_failed_counts_in_no_quota_and_is_not_used() -> None:
    one = account(Limit(per_day=1))
    for _ in range(3):
        one.leave(one.enter("iris", cost_of()), Answer(outcome=ModelFailed("no")))
    assert list(one.take_used()) == []
    one.enter("iris", cost_of())
    with pytest.raises(RateLimited):
        one.enter("iris", cost_of())


def test_what_a_caller_has_in_flight_is_kept_when_keys_change() -> None:
    kept = accounts()
    before = kept.of(principal(Limit(in_flight=1)))
    before.leave(before.enter("iris", cost_of()), Answer())
    under_way = before.enter("iris", cost_of())
    after = kept.of(principal(Limit(rate=9), Limit(in_flight=1)))
    with pytest.raises(RateLimited, match="1 requests in flight"):
        after.enter("iris", cost_of())
    kept.of(principal(Limit(rate=5)))
    before.leave(under_way, Answer())
    (account,) = kept
    assert [used.requests for used in account.take_used()] == [2]


def test_an_owner_that_is_another_one_now_is_another_tenant() -> None:
    kept = accounts()
    before = kept.of(principal()).tenant
    after = kept.of(Principal(Key(id="k", digest="", owner="others", scopes=())))
    assert (after.owner, after.who.owner) == ("others", "others")
    assert after.tenant != before


def test_who_is_forgotten_and_comes_back_is_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.access.accounts.MOST_ACCOUNTS", 0)
    kept, caller = accounts(), principal()
    kept.of(caller)
    kept.forget_idle()
    assert list(kept) == []
    one = caller.account or kept.of(caller)
    one.leave(one.enter("iris", cost_of()), Answer())
    assert [used.requests for account in kept for used in account.take_used()] == [1]


def test_a_model_is_weighed_as_the_version_that_answered() -> None:
    one = account(Limit(count="weight", per_day=10))
    for weight in (1.0, 4.0):
        one.leave(one.enter("iris", cost_of(weight=2)), Answer(weight=weight))
    (used,) = one.take_used()
    assert (used.requests, used.weight) == (2, 5.0)
    assert one.meters[0].total == 5.0


# Several gateways.


class Table:
    """A board in this process."""

    def __init__(self) -> None:
        self.told: dict[str, Demands] = {}
        self.is_there = True

    def place(self, name: str) -> Place:
        return Place(self, name)


class Place:
    def __init__(self, table: Table, name: str) -> None:
        self._table, self._name = table, name

    async def exchange(self, demands: Demands) -> list[Demands]:
        if not self._table.is_there:
            raise OSError("away")
        self._table.told[self._name] = demands
        return [told for name, told in self._table.told.items() if name != self._name]


async def run_overloaded(
    asked: Sequence[int], *, away_after: int = 10**9, seconds: int = 20, rate: float = 100
) -> list[int]:
    """Let gateways be asked so often each tenth of a second; how many each lets in, from the second
    second on.
    """
    now, table = Now(), Table()
    gateways = [accounts(now) for _ in asked]
    shares = [Shares(one, table.place(str(n))) for n, one in enumerate(gateways)]
    caller, let_in = principal(Limit(rate=rate)), [0] * len(asked)
    for tenth in range(seconds * 10):
        now.time += 0.1
        table.is_there = tenth < away_after
        for number, (one, often) in enumerate(zip(gateways, asked, strict=True)):
            taken = how_many(one.of(caller).meters[0], often)
            let_in[number] += taken if tenth >= 20 else 0
        if tenth % 3 == 0:
            for share in shares:
                await share.exchange()
    return let_in


@pytest.mark.parametrize("asked", [(30, 30), (50, 20, 80), (100, 1), (4, 4), (0, 60)])
async def test_gateways_together_let_in_what_the_limit_says(asked: tuple[int, ...]) -> None:
    let_in = await run_overloaded(asked)
    wanted = min(100, 10 * sum(asked)) * 18
    assert sum(let_in) == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("asked", [(30, 30), (100, 1)])
async def test_without_the_board_they_go_on_with_the_shares_they_had(
    asked: tuple[int, int],
) -> None:
    let_in = await run_overloaded(asked, away_after=100)
    assert sum(let_in) == pytest.approx(1800, rel=0.1)


async def test_with_no_board_at_all_each_has_its_fraction() -> None:
    one = meter(now := Now(), gateways=4, rate=100)
    now.time += 1
    assert how_many(one, 200) == 25


async def test_places_in_flight_go_where_they_are_wanted() -> None:
    now, table = Now(), Table()
    gateways = [accounts(now) for _ in range(2)]
    caller = principal(Limit(in_flight=10))
    busy, idle = (one.of(caller).meters[0] for one in gateways)
    shares = [Shares(one, table.place(str(n))) for n, one in enumerate(gateways)]
    for _ in range(3):
        now.time += 0.25
        with contextlib.suppress(RateLimited):
            while True:
                busy.enter(1)
        for share in shares:
            await share.exchange()
    assert busy.in_flight == 10
    idle.enter(1)  # one at least, and no more, until some of those have left
    with pytest.raises(RateLimited):
        idle.enter(1)


# Usage.


class Book:
    """A store in this process."""

    def __init__(self) -> None:
        self.rows: list[DayOfUsage] = []
        self.acts: list[Act] = []
        self.is_there = self.is_readable = True

    def add(self, day: str, used: Iterable[Used], acts: Iterable[Act]) -> None:
        if not self.is_there:
            raise OSError("away")
        self.rows += [DayOfUsage(day, one) for one in used]
        self.acts += acts

    def read(self, first: str, last: str, keys: Sequence[str] | None = None) -> list[DayOfUsage]:
        if not self.is_readable:
            raise OSError("away")
        rows = [row for row in self.rows if first <= row.day <= last]
        return [row for row in rows if keys is None or row.used.key in keys]


def bookkeeper(kept: Accounts, book: Book, now: Now, told: list[Used]) -> Bookkeeper:
    return Bookkeeper(kept, Audit(now), book, on_used=told.append, wall_clock=now)


async def test_usage_is_kept_and_nothing_is_lost_while_the_store_is_away() -> None:
    now, book, told = Now(), Book(), list[Used]()
    kept = accounts(now)
    keeper = bookkeeper(kept, book, now, told)
    one = kept.of(principal())
    one.leave(one.enter("iris", cost_of()), Answer(instances=4))
    book.is_there = False
    await keeper.keep()
    one.leave(one.enter("iris", cost_of()), Answer(instances=2))
    book.is_there = True
    await keeper.keep()
    used = Used("k", "team", "iris", 2, 6, 6.0, 1.5)
    assert book.rows == [DayOfUsage("2027-01-15", used)]
    assert told == [used]


async def test_what_was_added_is_not_added_again_when_it_cannot_be_read() -> None:
    now, book, told = Now(), Book(), list[Used]()
    kept = accounts(now)
    keeper = bookkeeper(kept, book, now, told)
    one = kept.of(principal(Limit(per_day=3)))
    one.leave(one.enter("iris", cost_of()), Answer())
    book.is_readable = False
    await keeper.keep()
    await keeper.keep()
    assert [row.used.requests for row in book.rows] == [1]
    assert how_many(one.meters[0], 5) == 2


async def test_a_new_day_has_a_new_quota_at_once() -> None:
    now, book = Now(), Book()
    kept = accounts(now)
    keeper = bookkeeper(kept, book, now, [])
    one = kept.of(principal(Limit(per_day=3, per_month=4)))
    for _ in range(3):
        one.leave(one.enter("iris", cost_of()), Answer())
    await keeper.keep()
    assert how_many(one.meters[0], 1) == 0
    now.time += DAY / 2
    assert how_many(one.meters[0], 5) == 1
    with pytest.raises(RateLimited, match="4 times per month"):
        one.enter("iris", cost_of())


async def test_limits_that_change_know_what_was_used_before() -> None:
    now, book = Now(), Book()
    kept = accounts(now)
    keeper = bookkeeper(kept, book, now, [])
    one = kept.of(principal(Limit(per_day=5)))
    for _ in range(2):
        one.leave(one.enter("iris", cost_of()), Answer())
    await keeper.keep()
    one.leave(one.enter("iris", cost_of()), Answer())
    one = kept.of(principal(Limit(per_day=4)))
    one.leave(one.enter("iris", cost_of()), Answer())
    await keeper.keep()
    with pytest.raises(RateLimited, match="4 times per day"):
        one.enter("iris", cost_of())


async def test_a_quota_counts_what_other_gateways_know() -> None:
    now, book = Now(), Book()
    caller = principal(Limit(per_day=10))
    here, there = accounts(now), accounts(now)
    keepers = [bookkeeper(one, book, now, []) for one in (here, there)]
    for _ in range(6):
        one = there.of(caller)
        one.leave(one.enter("iris", cost_of()), Answer())
    here.of(caller)
    for keeper in reversed(keepers):
        await keeper.keep()
    meter_here = here.of(caller).meters[0]
    assert how_many(meter_here, 10) == 4
    now.time += DAY
    await keepers[0].keep()
    meter_here.total = 0  # what was let in above went by no account
    assert how_many(meter_here, 20) == 10


async def test_what_was_done_is_kept_too() -> None:
    now, book = Now(), Book()
    audit = Audit(now)
    keeper = Bookkeeper(accounts(now), audit, book, on_used=lambda _: None, wall_clock=now)
    audit.note("k", "POST /models/iris/unload", "iris")
    book.is_there = False
    await keeper.keep()
    audit.note("127.0.0.1", "refused: POST /models/iris/load", "iris")
    book.is_there = True
    await keeper.keep()
    audit.note("k", "POST /models/\x1b[2J\0/load", "\x1b[2J\0")
    await keeper.keep()
    acts = [(act.actor, act.subject) for act in book.acts]
    assert acts == [("k", "iris"), ("127.0.0.1", "iris"), ("k", "\ufffd[2J\ufffd")]
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_strangers_cannot_fill_the_store_with_what_was_refused_to_them() -> None:
    now = Now()
    audit = Audit(now)
    for _ in range(1000):
        audit.note("192.0.2.1", "refused: POST /models/iris/load", "iris", is_refused=True)
    audit.note("k", "POST /models/iris/load", "iris")
    assert len(audit.take()) == 61
    now.time += 60
    audit.note("192.0.2.1", "refused: POST /models/iris/load", "iris", is_refused=True)
    assert len(audit.take()) == 1
