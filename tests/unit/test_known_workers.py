"""What a gateway knows of a target's workers: sums that are right whatever was heard in between."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.manifest import Limits
from modelyard.core.messages import SERVING, State
from modelyard.transports.amqp.envelope import Card, Status
from modelyard.transports.amqp.known import Known
from tests.unit.asking import IRIS

CARD = Card(IRIS, "About iris.", Limits(), 60, 8, scale_to_zero=False, digest="d", schema=None)
STATES: tuple[State, ...] = ("ready", "recovering", "starting", "failed", "stopped", "asleep")


def status(
    worker: str = "w1",
    state: State = "ready",
    *,
    card: str = "a",
    reason: str = "",
    runners: int = 2,
    queued: int | None = None,
    instance_s: float = 0.0,
    is_last: bool = False,
) -> Status:
    """Give what a worker says of itself."""
    ready = runners if state == "ready" else 0
    return Status(
        worker,
        "host",
        IRIS,
        card,
        state,
        reason,
        runners,
        ready,
        queued,
        instance_s,
        is_last,
    )


def known(*statuses: Status, card: Card | None = CARD) -> Known:
    found = Known(IRIS, 0)
    found.card, found.card_id = card, "a"
    for number, said in enumerate(statuses):
        found.hear(said, number)
    return found


statuses = st.builds(
    status,
    st.sampled_from(["w1", "w2", "w3"]),
    st.sampled_from(STATES),
    card=st.sampled_from("ab"),
    runners=st.integers(0, 3),
    instance_s=st.sampled_from([0.0, 0.25, 0.5]),
    is_last=st.booleans(),
)
heard = st.one_of(statuses, st.sampled_from(["w1", "w2", "w9"]), st.integers(0, 9))


@settings(max_examples=200)
@given(st.lists(heard, max_size=20))
def test_the_sums_are_those_of_the_workers_that_are_there(events: list[Status | str | int]) -> None:
    found, there = known(), dict[str, tuple[int, Status]]()
    for now, event in enumerate(events):
        if isinstance(event, Status):
            is_changed = found.hear(event, now)
            before = there.pop(event.worker, None)
            if not event.is_last:
                there[event.worker] = (now, event)
                assert is_changed or before is not None
            else:
                assert is_changed == (before is not None)
        elif isinstance(event, str):
            assert found.drop(event, now) == (there.pop(event, None) is not None)
        else:
            silent = [name for name, (at, _) in there.items() if at < now - event]
            assert found.drop_silent(now - event, now) == bool(silent)
            there = {name: said for name, said in there.items() if name not in silent}
    present = [said for _, said in there.values()]
    serving = [said for said in present if said.state in SERVING]
    announcement = found.announcement()
    assert announcement is not None
    assert found.workers == len(present)
    assert announcement.runners == sum(said.runners for said in present)
    assert announcement.runners_ready == sum(said.runners_ready for said in present)
    assert announcement.workers == len(serving)
    if paces := [said.instance_s for said in present if said.instance_s]:
        assert found.instance_s == pytest.approx(sum(paces) / len(paces))
    best = min((STATES.index(said.state) for said in present), default=STATES.index("stopped"))
    assert announcement.state == STATES[best]
    assert sorted(member.name for member in found.members) == sorted(there)
    assert (found.empty_since is None) == bool(present)


def test_only_what_matters_counts_as_a_change() -> None:
    found = known(status())
    assert not found.hear(status(queued=9, instance_s=0.5), 1)
    assert found.queued == 9
    assert found.hear(status(runners=3), 2)
    assert found.hear(status(state="recovering"), 3)
    assert found.hear(status(state="recovering", reason="exit code 1"), 4)
    assert found.hear(status(card="b"), 5)


def test_workers_are_listed_with_those_that_serve_first() -> None:
    found = known(status("b", "failed"), status("c"), status("a", "starting"), status("d"))
    assert [member.name for member in found.members] == ["c", "d", "a", "b"]


def test_the_reason_is_that_of_a_worker_in_the_best_state() -> None:
    found = known(status("a", "failed", reason="no file"), status("b", "starting", reason="loads"))
    found.hear(status("c", "starting"), 9)
    told = found.announcement()
    assert told is not None
    assert (told.state, told.reason) == ("starting", "loads")
    found.hear(status("d"), 9)
    told = found.announcement()
    assert told is not None
    assert (told.state, told.reason) == ("ready", "")


def test_without_workers_a_target_sleeps_if_it_may() -> None:
    for may_sleep, state in ((True, "asleep"), (False, "stopped")):
        found = known(card=msgspec.structs.replace(CARD, scale_to_zero=may_sleep))
        told = found.announcement()
        assert told is not None
        assert (told.state, told.reason) == (state, "no worker is up")


def test_nothing_is_told_before_the_first_card() -> None:
    assert known(status(), card=None).announcement() is None


def test_a_worker_that_could_not_be_heard_has_time_again() -> None:
    found = known(status())
    found.excuse(10)
    assert not found.drop_silent(9, 12)
    assert found.drop_silent(11, 12)
    assert (found.workers, found.queued, found.empty_since) == (0, None, 12)


def test_the_card_stays_while_a_worker_that_serves_has_it() -> None:
    found = known(status("old"), status("new", card="b"))
    assert found.newer_card() is None
    found.drop("old", 9)
    newer = found.newer_card()
    assert newer is not None
    assert newer.card == "b"
    assert known(status(state="failed")).newer_card() is None  # it is the same
    assert known().newer_card() is None
