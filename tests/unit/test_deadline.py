"""Timeouts that can be asked for, and items that expire never early and hardly late."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.deadline import LONGEST_TIMEOUT_S, Deadlines, choose_timeout
from modelyard.core.errors import Malformed

ROUNDING_S = 1e-6  # what a sum of floats of this size may be off

moments = st.floats(min_value=0, max_value=1e7)
seconds = st.floats(min_value=0, max_value=LONGEST_TIMEOUT_S, exclude_min=True)


@given(st.lists(moments))
def test_items_expire_never_early_and_at_most_one_resolution_late(due: list[float]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    for item, deadline in enumerate(due):
        deadlines.add(item, deadline=deadline)
    latest_s = deadlines.resolution_s + ROUNDING_S
    left = set(range(len(due)))
    for now in sorted(deadline + late_s for deadline in due for late_s in (0, latest_s)):
        expired = deadlines.pop_expired(now)
        assert len(set(expired)) == len(expired)
        assert set(expired) <= left
        left -= set(expired)
        assert all(due[item] <= now for item in expired)
        assert all(due[item] > now - latest_s for item in left)
        assert bool(deadlines) == bool(left)
    assert not left


@given(st.lists(moments))
def test_the_earliest_comes_first(due: list[float]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    for item, deadline in enumerate(due):
        deadlines.add(item, deadline=deadline)
    expired = [due[item] for item in deadlines.pop_expired(2e7)]
    latest_so_far = 0.0
    for deadline in expired:
        assert deadline > latest_so_far - deadlines.resolution_s - ROUNDING_S
        latest_so_far = max(latest_so_far, deadline)
    assert sorted(expired) == sorted(due)


@given(st.lists(st.tuples(moments, st.booleans())))
def test_what_was_discarded_does_not_expire(items: list[tuple[float, bool]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    for item, (deadline, is_discarded) in enumerate(items):
        bucket = deadlines.add(item, deadline=deadline)
        if is_discarded:
            deadlines.discard(item, bucket)
    kept = {item for item, (_, is_discarded) in enumerate(items) if not is_discarded}
    assert bool(deadlines) == bool(kept)
    assert set(deadlines.pop_expired(2e7)) == kept


def test_discarding_what_has_expired_is_nothing() -> None:
    deadlines: Deadlines[str] = Deadlines()
    bucket = deadlines.add("late", deadline=1)
    assert deadlines.pop_expired(2) == ["late"]
    deadlines.discard("late", bucket)
    assert not deadlines


@given(seconds, seconds, seconds)
def test_a_request_gets_what_it_asks_within_the_cap(
    asked_s: float, model_s: float, cap_s: float
) -> None:
    assert choose_timeout(asked_s, model_s=model_s, cap_s=cap_s) == min(asked_s, cap_s)
    assert choose_timeout(None, model_s=model_s, cap_s=cap_s) == min(model_s, cap_s)


@pytest.mark.parametrize(
    "asked_s", [math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 3600.001, 1e300]
)
def test_a_timeout_that_is_none_is_malformed(asked_s: float) -> None:
    with pytest.raises(Malformed, match="more than 0 and at most 3600 seconds") as caught:
        choose_timeout(asked_s, model_s=1, cap_s=1)
    assert caught.value.where == "$.timeout_s"
