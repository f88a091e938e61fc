"""Which texts are names, and which version is newer."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.names import Name, Target, is_name, version_order

FIRST = string.ascii_lowercase + string.digits
REST = FIRST + "._-"

names = st.builds(str.__add__, st.sampled_from(FIRST), st.text(REST, max_size=63))
releases = st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=5)


@given(names)
def test_accepts_every_name_everywhere(name: str) -> None:
    assert is_name(name)
    assert msgspec.convert(name, Name) == name


@given(st.text() | st.text(REST + "A/\n ", max_size=70))
def test_refuses_everything_else(text: str) -> None:
    is_well_spelt = text[:1] in FIRST and all(character in REST for character in text)
    assert is_name(text) == (1 <= len(text) <= 64 and is_well_spelt)


@pytest.mark.parametrize(
    "text",
    ["", "a\n", "\na", "-a", ".", "..", "A", "a/b", "a b", "é", "٣", "a٣", "a" * 65, "a" * 300],
)
def test_refuses_what_looks_like_a_name(text: str) -> None:
    assert not is_name(text)


@given(releases, releases)
def test_versions_sort_by_the_value_of_their_numbers(left: list[int], right: list[int]) -> None:
    left_order, right_order = (
        version_order(".".join(map(str, release))) for release in (left, right)
    )
    assert (left_order < right_order) == (left < right)
    assert (left_order == right_order) == (left == right)


@given(names, names)
def test_any_two_versions_can_be_compared(left: str, right: str) -> None:
    before, after = sorted([left, right], key=version_order)
    assert version_order(before) <= version_order(after)


def test_a_number_is_newer_than_a_word_in_its_place() -> None:
    assert sorted(["1.2", "1.rc", "1.10", "beta"], key=version_order) == [
        "beta",
        "1.rc",
        "1.2",
        "1.10",
    ]


def test_a_target_reads_as_name_and_version() -> None:
    assert str(Target("iris", "2")) == "iris/2"
