"""The backlog: nothing lost, nothing twice, the most urgent first, nobody starved."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelyard.core.batch import (
    LARGEST_BATCH_BYTES,
    LOW_EVERY,
    NORMAL_EVERY,
    OLDEST_EVERY,
    Backlog,
    Priority,
)

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

few = st.integers(min_value=1, max_value=6)


@dataclass(eq=False)
class Ticket:
    """A request, as far as a backlog knows it."""

    number: int
    deadline: float = 1e9
    priority: Priority = "normal"
    instances: int = 1
    input_bytes: int = 1
    is_gone: bool = False


class BacklogMachine(RuleBasedStateMachine):
    """Adds, abandons, takes and prunes in any order, and keeps a plain list beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog: Backlog[Ticket] = Backlog()
        self.waiting: list[Ticket] = []
        self.added = self.taken = 0
        self.now = 0.0

    def alive(self) -> list[Ticket]:
        return [t for t in self.waiting if not t.is_gone and t.deadline > self.now]

    def expired(self) -> set[Ticket]:
        return {t for t in self.waiting if not t.is_gone and t.deadline <= self.now}

    @rule(in_s=few, priority=st.sampled_from(PRIORITIES), instances=few)
    def add(self, in_s: int, priority: Priority, instances: int) -> None:
        self.added += 1
        ticket = Ticket(self.added, self.now + in_s, priority, instances)
        self.waiting.append(ticket)
        self.backlog.add(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).is_gone = True

    @rule(seconds=few)
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds

    @rule(max_instances=few)
    def take(self, max_instances: int) -> None:
        alive, all_expired = self.alive(), self.expired()
        self.taken += 1
        is_by_age = self.taken % OLDEST_EVERY == 0
        batch, expired = self.backlog.take(max_instances=max_instances, now=self.now)
        assert len(set(batch)) == len(batch)
        assert len(set(expired)) == len(expired)
        assert set(batch) <= set(alive)
        assert set(expired) <= all_expired
        assert bool(batch) == bool(alive)
        assert sum(t.instances for t in batch) <= max_instances or len(batch) == 1
        assert len({t.priority == "low" for t in batch}) <= 1
        for priority in PRIORITIES:
            taken = [t for t in batch if t.priority == priority]
            in_order = sorted(
                (t for t in alive if t.priority == priority),
                key=lambda t: (0 if is_by_age else t.deadline, t.number),
            )
            assert taken == in_order[: len(taken)]
        self.waiting = [t for t in self.waiting if t not in {*batch, *expired}]

    @rule()
    def prune(self) -> None:
        expired = self.backlog.prune(self.now)
        assert len(set(expired)) == len(expired)
        assert set(expired) == self.expired()
        self.waiting = self.alive()
        assert len(self.backlog) == len(self.waiting)

    @invariant()
    def nothing_is_lost(self) -> None:
        held = list(self.backlog)
        wanted = {t for t in self.waiting if not t.is_gone}
        assert wanted <= set(held) <= set(self.waiting)
        assert len(self.backlog) == len(held)
        assert self.backlog.instances == sum(t.instances for t in held)


TestBacklog = BacklogMachine.TestCase


@given(few, few)
def test_a_stream_of_high_priority_does_not_starve_the_rest(size: int, takes_before: int) -> None:
    backlog: Backlog[Ticket] = Backlog()
    for _ in range(takes_before):
        backlog.take(max_instances=size, now=0)
    patient = Ticket(0)
    backlog.add(patient)
    for _ in range(NORMAL_EVERY):
        for number in range(size):
            backlog.add(Ticket(number, deadline=1, priority="high"))
        backlog.take(max_instances=size, now=0)
    assert patient not in list(backlog)


@given(few, few)
def test_a_stream_of_earlier_deadlines_does_not_starve_the_rest(
    size: int, takes_before: int
) -> None:
    backlog: Backlog[Ticket] = Backlog()
    for _ in range(takes_before):
        backlog.take(max_instances=size, now=0)
    patient = Ticket(0, deadline=2)
    backlog.add(patient)
    for _ in range(OLDEST_EVERY):
        for number in range(size):
            backlog.add(Ticket(number, deadline=1))
        backlog.take(max_instances=size, now=0)
    assert patient not in list(backlog)


def test_most_batches_begin_with_high_priority() -> None:
    backlog: Backlog[Ticket] = Backlog()
    for number in range(NORMAL_EVERY):
        backlog.add(Ticket(number, deadline=1))
        backlog.add(Ticket(number, deadline=2, priority="high"))
    firsts = [backlog.take(max_instances=1, now=0)[0][0].priority for _ in range(NORMAL_EVERY)]
    assert sorted(firsts) == ["high"] * (NORMAL_EVERY - 1) + ["normal"]


@given(few, few)
def test_low_priority_waits_for_others_but_not_for_ever(size: int, takes_before: int) -> None:
    backlog: Backlog[Ticket] = Backlog()
    for _ in range(takes_before):
        backlog.take(max_instances=size, now=0)
    patient = Ticket(0, deadline=0.5, priority="low")
    backlog.add(patient)
    turns = 0
    while patient in list(backlog):
        for number in range(size):
            backlog.add(Ticket(number, deadline=1))
        batch, _ = backlog.take(max_instances=size + 1, now=0)
        assert batch == [patient] or patient not in batch
        turns += 1
    assert turns <= LOW_EVERY
    if takes_before + 1 != LOW_EVERY:
        assert turns > 1


def test_low_priority_runs_at_once_when_nothing_else_waits() -> None:
    backlog: Backlog[Ticket] = Backlog()
    tickets = [Ticket(number, priority="low") for number in range(3)]
    for ticket in tickets:
        backlog.add(ticket)
    assert backlog.take(max_instances=8, now=0) == (tickets, [])


def test_a_request_larger_than_a_batch_runs_alone() -> None:
    backlog: Backlog[Ticket] = Backlog()
    large, small = Ticket(0, deadline=1, instances=9), Ticket(1, deadline=2)
    backlog.add(small)
    backlog.add(large)
    assert backlog.take(max_instances=4, now=0) == ([large], [])
    assert backlog.take(max_instances=4, now=0) == ([small], [])


def test_room_that_high_priority_leaves_is_filled() -> None:
    backlog: Backlog[Ticket] = Backlog()
    urgent, other = Ticket(0, priority="high", instances=3), Ticket(1)
    backlog.add(other)
    backlog.add(urgent)
    assert backlog.take(max_instances=4, now=0) == ([urgent, other], [])


def test_a_batch_holds_no_more_than_its_bytes_or_one_request() -> None:
    backlog: Backlog[Ticket] = Backlog()
    half = LARGEST_BATCH_BYTES // 2
    for number, size in enumerate((half, half, half, 3 * half, 1)):
        backlog.add(Ticket(number, input_bytes=size))
    taken = []
    while backlog:
        batch, _ = backlog.take(max_instances=64, now=0)
        taken.append([ticket.number for ticket in batch])
    assert taken == [[0, 1], [2], [3], [4]]
