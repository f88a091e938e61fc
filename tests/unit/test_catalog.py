"""Which target a request means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import ModelNotFound, Unavailable, VersionNotFound
from modelyard.core.messages import State
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog
from tests.unit.asking import announcement

SERVING: list[State] = ["ready", "recovering"]
NOT_SERVING: list[State] = ["starting", "failed", "stopped"]


def catalog_of(**states: State) -> Catalog:
    """Give a catalog with the versions v1, v2, … of one model, each in its state."""
    catalog = Catalog()
    for version, state in states.items():
        catalog.announce(announcement(Target("iris", version), state=state))
    return catalog


def default_of(catalog: Catalog) -> str:
    return catalog.resolve("iris", None).target.version


@given(
    st.dictionaries(
        st.integers(min_value=0, max_value=200), st.sampled_from(SERVING + NOT_SERVING), min_size=1
    )
)
def test_the_default_is_the_newest_that_serves(states: dict[int, State]) -> None:
    catalog = Catalog()
    for number, state in states.items():
        catalog.announce(announcement(Target("iris", str(number)), state=state))
    serving = [number for number, state in states.items() if state in SERVING]
    assert default_of(catalog) == str(max(serving or states))
    (default,) = (entry for entry in catalog.entries() if catalog.is_default(entry))
    assert default is catalog.resolve("iris", None)


def test_the_default_moves_when_a_newer_version_becomes_ready() -> None:
    catalog = catalog_of(v1="ready", v2="starting")
    assert default_of(catalog) == "v1"
    catalog.announce(announcement(Target("iris", "v2"), state="ready"))
    assert default_of(catalog) == "v2"


def test_the_default_moves_back_when_the_newest_fails() -> None:
    catalog = catalog_of(v1="ready", v2="ready")
    catalog.announce(announcement(Target("iris", "v2"), state="failed"))
    assert default_of(catalog) == "v1"


def test_a_version_is_found_whatever_its_state() -> None:
    entry = catalog_of(v1="ready", v2="failed").resolve("iris", "v2")
    assert entry.target == Target("iris", "v2")
    assert not entry.is_serving


def test_an_announcement_replaces_what_was_known_and_keeps_what_is_under_way() -> None:
    catalog = catalog_of(v1="ready")
    entry = catalog.resolve("iris", "v1")
    entry.in_flight = 3
    revision = catalog.revision
    catalog.announce(announcement(Target("iris", "v1"), state="stopped", reason="told to"))
    assert catalog.resolve("iris", "v1") is entry
    assert (entry.is_serving, entry.in_flight) == (False, 3)
    assert entry.announcement.reason == "told to"
    assert catalog.revision > revision


def test_a_version_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(VersionNotFound, match="it has v2, v1"):
        catalog_of(v1="ready", v2="ready").resolve("iris", "v3")


@pytest.mark.parametrize("version", [None, "v1"])
def test_a_model_that_does_not_exist_is_not_found(version: str | None) -> None:
    with pytest.raises(ModelNotFound):
        catalog_of(v1="ready").resolve("rose", version)


def test_targets_are_listed_by_name_the_newest_version_first() -> None:
    catalog = Catalog()
    for name, version in [("rose", "1"), ("iris", "9"), ("iris", "10")]:
        catalog.announce(announcement(Target(name, version)))
    assert [str(entry.target) for entry in catalog.entries()] == ["iris/10", "iris/9", "rose/1"]
    assert [entry.target.version for entry in catalog.versions("iris")] == ["10", "9"]
    assert catalog.versions("tulip") == []


@pytest.mark.parametrize(
    ("ttl_s", "digest", "is_cacheable"),
    [(1, "sha256:0", True), (0, "sha256:0", False), (1, "", False)],
)
def test_answers_can_be_kept_only_of_a_function_with_a_digest(
    ttl_s: float, digest: str, is_cacheable: bool
) -> None:
    catalog = Catalog()
    catalog.announce(announcement(ttl_s=ttl_s, digest=digest))
    assert (catalog.resolve("iris", None).keys is not None) == is_cacheable


def test_a_version_that_says_so_answers_by_default_whatever_is_newer() -> None:
    catalog = Catalog()
    for version in ("1", "2", "3"):
        target = Target("iris", version)
        catalog.announce(announcement(target, is_default=version == "2"))
    assert default_of(catalog) == "2"
    catalog.announce(announcement(Target("iris", "2"), state="failed", is_default=True))
    assert default_of(catalog) == "2", "what was chosen is not left without a word"
    catalog.announce(announcement(Target("iris", "2"), state="stopped", is_default=True))
    assert default_of(catalog) == "3"


def test_a_setting_goes_before_what_versions_say() -> None:
    catalog = Catalog(defaults={"iris": "1"})
    for version in ("1", "2", "3"):
        target = Target("iris", version)
        catalog.announce(announcement(target, is_default=version == "2"))
    assert default_of(catalog) == "1"


def test_what_is_not_known_yet_is_not_said_not_to_be_there() -> None:
    is_complete = False
    catalog = Catalog(is_complete=lambda: is_complete)
    catalog.announce(announcement(Target("iris", "1")))
    assert default_of(catalog) == "1"
    for name, version in (("rose", None), ("iris", "2")):
        with pytest.raises(Unavailable):
            catalog.resolve(name, version)
    is_complete = True
    with pytest.raises(ModelNotFound):
        catalog.resolve("rose", None)


def test_a_target_that_is_gone_is_forgotten() -> None:
    catalog = Catalog()
    for version in ("1", "2"):
        catalog.announce(announcement(Target("iris", version)))
    catalog.forget(Target("iris", "2"))
    assert default_of(catalog) == "1"
    with pytest.raises(VersionNotFound):
        catalog.resolve("iris", "2")
    catalog.forget(Target("iris", "1"))
    with pytest.raises(ModelNotFound):
        catalog.resolve("iris", None)
    assert catalog.entries() == []
