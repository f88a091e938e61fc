"""The store's contract for versions of models, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from modelyard.core.errors import Conflict, ModelNotFound, RequestError, VersionNotFound
from modelyard.core.names import Target
from modelyard.core.versions import Artefact, Contents
from modelyard.store.errors import StoreError
from modelyard.store.schema import upgrade
from modelyard.store.versions import VersionStore
from tests.contract.conftest import Now


def artefact(path: str, content: str) -> Artefact:
    digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    return Artefact(path, digest, len(content))


def contents(model: str = "a", **more: Any) -> Contents:
    files = (artefact("assets/model.onnx", model), artefact("model.toml", "name"))
    return msgspec.structs.replace(Contents(files=files), **more)


@pytest.fixture
def store(engine: sa.Engine, now: Now) -> VersionStore:
    upgrade(engine)
    return VersionStore(engine, wall_clock=now)


def add(store: VersionStore, version: str, of: Contents, *, actor: str = "ada") -> None:
    store.add(Target("iris", version), of, actor=actor, check=lambda: None)


def test_a_version_is_kept_as_it_was_pushed(store: VersionStore) -> None:
    pushed = contents(
        commit="4f5e", run="https://mlflow/1", signature="{}", schema={"input": {"type": "array"}}
    )
    add(store, "1", pushed)
    found = store.find(Target("iris", "1"))
    assert found.contents == pushed
    assert found.digest == pushed.digest
    assert (found.size, found.pushed_by, found.pushed_at) == (5, "ada", 1000.0)
    assert found.is_signed


def test_versions_are_listed_in_their_order(store: VersionStore) -> None:
    for version in ("10", "9", "1"):
        add(store, version, contents(version))
    store.add(Target("boat", "1"), contents(), actor="ada", check=lambda: None)
    assert [str(one.target) for one in store.versions()] == [
        "boat/1",
        "iris/1",
        "iris/9",
        "iris/10",
    ]
    assert [one.version for one in store.versions("iris")] == ["1", "9", "10"]
    assert store.versions("rose") == []


def test_a_version_never_changes(store: VersionStore, now: Now) -> None:
    add(store, "1", contents("a"))
    now.time = 2000.0
    add(store, "1", contents("a"), actor="bob")
    found = store.find(Target("iris", "1"))
    assert (found.pushed_by, found.pushed_at) == ("ada", 1000.0)
    with pytest.raises(Conflict, match="a version does not change") as caught:
        add(store, "1", contents("b"))
    assert contents("a").digest in caught.value.detail
    with pytest.raises(Conflict, match="without a signature"):
        add(store, "1", contents("a", signature="{}"))
    assert store.find(Target("iris", "1")) == found


def test_what_lacks_an_artefact_is_not_there_at_all(engine: sa.Engine, store: VersionStore) -> None:
    def fail() -> None:
        raise RequestError("an artefact is missing")

    with pytest.raises(RequestError, match="is missing"):
        store.add(Target("iris", "1"), contents(), actor="ada", check=fail)
    assert store.versions() == []
    assert store.audit("iris") == []
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM files")).scalar_one() == 0


def test_of_two_who_push_the_same_version_one_is_refused(store: VersionStore) -> None:
    def push(content: str) -> str:
        try:
            add(store, "1", contents(content), actor=content)
        except Conflict:
            return ""
        return content

    with ThreadPoolExecutor(4) as pool:
        kept = list(filter(None, pool.map(push, "abcdefgh")))
    assert len(kept) == 1
    assert store.find(Target("iris", "1")).pushed_by == kept[0]


def test_an_alias_stands_for_one_version_and_its_changes_are_written_down(
    store: VersionStore, now: Now
) -> None:
    for version in ("1", "2"):
        add(store, version, contents(version))
    set_to = [
        store.set_alias(Target("iris", version), "prod", actor="bob", why=f"because of {version}")
        for version in ("1", "1", "2")
    ]
    assert set_to == ["", "1", "1"]
    assert store.resolve("iris", "prod") == "2"
    assert store.resolve("iris", "1") == "1"
    assert [one.aliases for one in store.versions("iris")] == [(), ("prod",)]
    assert store.find(Target("iris", "2")).aliases == ("prod",)
    now.time = 2000.0
    store.remove_alias("iris", "prod", actor="eve", why="over")
    told = [(c.at, c.actor, c.action, c.what, c.was, c.why) for c in store.audit("iris")]
    assert told[2:] == [
        (1000.0, "bob", "alias set", "prod=1", "", "because of 1"),
        (1000.0, "bob", "alias set", "prod=2", "prod=1", "because of 2"),
        (2000.0, "eve", "alias removed", "prod", "prod=2", "over"),
    ]


def test_what_is_not_there_is_told_with_what_is(store: VersionStore) -> None:
    for version in ("1", "2"):
        add(store, version, contents(version))
    store.set_alias(Target("iris", "2"), "prod", actor="ada", why="")
    told = r"no version or alias 3; its versions: 1, 2; its aliases: prod \(2\)"
    with pytest.raises(VersionNotFound, match=told):
        store.resolve("iris", "3")
    with pytest.raises(VersionNotFound, match=told):
        store.set_alias(Target("iris", "3"), "new", actor="ada", why="")
    with pytest.raises(VersionNotFound, match=told):
        store.remove_alias("iris", "3", actor="ada", why="")
    with pytest.raises(ModelNotFound, match="no model rose"):
        store.find(Target("rose", "1"))
    with pytest.raises(Conflict, match="has a version 1"):
        store.set_alias(Target("iris", "2"), "1", actor="ada", why="")


def test_a_version_is_not_called_like_an_alias_which_would_hide_it(store: VersionStore) -> None:
    add(store, "1", contents())
    store.set_alias(Target("iris", "1"), "2", actor="ada", why="")
    with pytest.raises(Conflict, match="2 is an alias of iris, which stands for 1"):
        add(store, "2", contents())
    store.remove_alias("iris", "2", actor="ada", why="")
    add(store, "2", contents())
    assert store.find(Target("iris", "2")).version == "2"


def test_a_removed_version_keeps_its_name_and_can_come_back(store: VersionStore) -> None:
    for version in ("1", "2"):
        add(store, version, contents(version))
    store.set_alias(Target("iris", "2"), "prod", actor="ada", why="")
    targets = [Target("iris", version) for version in ("1", "2", "3")]
    assert store.remove(targets, actor="ada", why="old") == targets[:1]  # an alias names 2
    assert [one.version for one in store.versions("iris")] == ["2"]
    with pytest.raises(VersionNotFound):
        store.find(targets[0])
    with pytest.raises(Conflict, match="its name stays taken"):
        add(store, "1", contents("another"))
    add(store, "1", contents("1"), actor="bob")
    assert store.find(targets[0]).pushed_by == "bob"


def test_artefacts_are_removed_only_if_no_version_needs_them(store: VersionStore) -> None:
    add(store, "1", contents("a"))
    add(store, "2", contents("b"))
    digests = [artefact("x", text).digest for text in ("a", "b", "c", "name")]
    removed: list[str] = []
    assert store.remove_unneeded(digests, removed.append) == [digests[2]] == removed
    store.remove([Target("iris", "1")], actor="ada", why="")
    assert set(store.remove_unneeded(digests, lambda _: None)) == {digests[0], digests[2]}


def test_a_database_that_is_away_is_told(store: VersionStore, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE aliases"))
    with pytest.raises(StoreError, match="aliases"):
        store.versions()
