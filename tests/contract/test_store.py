"""The store's contract, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from modelyard.access.accounts import Accounts
from modelyard.access.audit import Act, Audit
from modelyard.access.keyring import Key, Principal
from modelyard.access.keys import digest_of
from modelyard.access.limits import Limit, Used
from modelyard.access.usage import Bookkeeper, DayOfUsage
from modelyard.compose.routes import RouteFollower, StoreRoutes
from modelyard.core.errors import Conflict, RateLimited
from modelyard.core.routes import Guard, Route, Snapshot
from modelyard.settings import Settings
from modelyard.store.changing import begin, count_change
from modelyard.store.errors import StoreError
from modelyard.store.keys import KeyStore, StoreKeys
from modelyard.store.routes import RouteStore, StoredRoute
from modelyard.store.schema import (
    back_up,
    check_revision,
    newest_revision,
    open_engine,
    revision_of,
    upgrade,
)
from modelyard.store.tables import AUDIT, CHANGES, METADATA, ROUTES
from modelyard.store.usage import StoredAct, UsageStore
from tests.contract.conftest import Now
from tests.support.server import wait_until

USED = Used("other", "team", "iris", 1, 1, 1.0, 0.0)


@pytest.fixture
def keys(engine: sa.Engine, now: Now) -> KeyStore:
    upgrade(engine)
    return KeyStore(engine, actor="ada", wall_clock=now)


def create(keys: KeyStore, key_id: str, *scopes: str, expires: float | None = None) -> str:
    return keys.create(
        key_id, owner="team", scopes=scopes, expires=expires, networks=["10.0.0.0/8"]
    )


def test_an_empty_database_is_refused_until_it_is_upgraded(engine: sa.Engine) -> None:
    with pytest.raises(StoreError, match=r"yet.*run `modelyard store upgrade`"):
        check_revision(engine)
    assert upgrade(engine) == newest_revision() == revision_of(engine)
    check_revision(engine)
    assert upgrade(engine) == newest_revision()


def test_a_database_of_a_newer_release_is_used(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    check_revision(engine)
    assert "store_is_newer" in caplog.text


def test_migrations_make_the_tables_that_the_code_knows(engine: sa.Engine) -> None:
    upgrade(engine)
    found = sa.inspect(engine)
    assert set(found.get_table_names()) == {*METADATA.tables, "alembic_version"}
    for name, table in METADATA.tables.items():
        columns = {column["name"]: column for column in found.get_columns(name)}
        assert list(columns) == list(table.columns.keys())
        for column in table.columns:
            assert columns[column.name]["nullable"] == column.nullable, (name, column.name)


def test_a_key_is_read_by_its_digest_alone(engine: sa.Engine, keys: KeyStore) -> None:
    key = create(keys, "k1", "predict:iris")
    keyring = StoreKeys(engine).read()
    assert keyring is not None
    principal = keyring.find(digest_of(key))
    assert principal is not None
    assert (principal.id, principal.owner) == ("k1", "team")
    assert principal.scopes.may_predict("iris")
    assert principal.may_come_from("10.1.1.1")
    assert not principal.may_come_from("11.1.1.1")
    with engine.connect() as connection:
        for table in METADATA.sorted_tables:
            assert key not in str(connection.execute(table.select()).all())


def test_readers_see_each_change_once(engine: sa.Engine, keys: KeyStore) -> None:
    source = StoreKeys(engine)
    first = source.read()
    assert first is not None
    assert len(first) == 0
    assert source.read() is None
    create(keys, "k1", "read")
    second = source.read()
    assert second is not None
    assert len(second) == 1
    assert source.read() is None
    keys.revoke("k1")
    third = source.read()
    assert third is not None
    assert len(third) == 0


def test_a_rotated_key_is_valid_for_its_grace(engine: sa.Engine, keys: KeyStore, now: Now) -> None:
    old = create(keys, "k1", "read")
    new = keys.rotate("k1", grace_s=60)
    keyring = StoreKeys(engine).read()
    assert keyring is not None
    found = [keyring.find(digest_of(key)) for key in (old, new)]
    assert [principal and principal.expires for principal in found] == [1060.0, None]
    now.time = 1030.0
    keys.rotate("k1", grace_s=3600)
    keyring = StoreKeys(engine).read()
    assert keyring is not None
    old_one = keyring.find(digest_of(old))
    assert old_one is not None
    assert old_one.expires == 1060.0  # a second rotation makes it no longer
    (listed,) = keys.list()
    assert len(listed.shown) == 3


def test_what_is_not_there_or_revoked_cannot_be_changed(keys: KeyStore) -> None:
    create(keys, "k1", "read")
    with pytest.raises(StoreError, match="a key 'k1' already"):
        create(keys, "k1", "read")
    with pytest.raises(StoreError, match="no key 'k2'"):
        keys.rotate("k2", grace_s=0)
    keys.revoke("k1")
    for change in (lambda: keys.revoke("k1"), lambda: keys.rotate("k1", grace_s=0)):
        with pytest.raises(StoreError, match="is revoked"):
            change()
    (listed,) = keys.list()
    assert listed.revoked == 1000.0


def test_who_did_what_is_written_down(engine: sa.Engine, keys: KeyStore) -> None:
    create(keys, "k1", "read")
    keys.rotate("k1", grace_s=0)
    keys.revoke("k1")
    with engine.connect() as connection:
        rows = connection.execute(AUDIT.select().order_by(AUDIT.c.id)).all()
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("ada", "key created", "k1"),
        ("ada", "key rotated", "k1"),
        ("ada", "key revoked", "k1"),
    ]


def test_sqlite_is_copied_while_it_is_used_and_restored(tmp_path: Path, now: Now) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(engine)
    keys = KeyStore(engine, actor="ada", wall_clock=now)
    key = create(keys, "k1", "read")
    with engine.begin() as connection:
        connection.execute(AUDIT.select())
        back_up(engine, tmp_path / "copy.db")
    keys.revoke("k1")
    restored = open_engine(f"sqlite:///{tmp_path / 'copy.db'}")
    check_revision(restored)
    keyring = StoreKeys(restored).read()
    assert keyring is not None
    assert keyring.find(digest_of(key)) is not None
    with pytest.raises(StoreError, match="is there already"):
        back_up(engine, tmp_path / "copy.db")


@pytest.mark.parametrize(
    ("url", "problem"),
    [("nonsense", "URL is none"), ("mysql://host/db", "mysql is not offered")],
)
def test_another_database_is_refused(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        open_engine(url)


def test_usage_is_summed_by_day_key_and_model(engine: sa.Engine) -> None:
    upgrade(engine)
    store = UsageStore(engine)
    store.add("2027-01-31", [Used("k", "team", "iris", 2, 8, 2.0, 0.5)])
    store.add("2027-01-31", [Used("k", "team", "iris", 1, 1, 1.0, 0.25), USED])
    january = store.read("2027-01-01", "2027-01-31")
    assert january == [
        DayOfUsage("2027-01-31", Used("k", "team", "iris", 3, 9, 3.0, 0.75)),
        DayOfUsage("2027-01-31", USED),
    ]
    assert store.read("2027-01-01", "2027-12-31", ["other"]) == january[1:]


async def test_what_strangers_call_themselves_and_models_does_not_stop_the_book(
    engine: sa.Engine,
) -> None:
    upgrade(engine)
    accounts, store = Accounts(gateways=1, clock=Now(), wall_clock=Now()), UsageStore(engine)
    audit = Audit(Now())
    keeper = Bookkeeper(accounts, audit, store, on_used=lambda _: None, wall_clock=Now())
    caller = Key(id="x\0" * 1000, digest="", owner="\0", scopes=(), limits=(Limit(per_day=1),))
    account = accounts.of(Principal(caller))
    account.add_used([USED])
    audit.note("127.0.0.1", "refused: POST /models/\0/load", "\0")
    await keeper.keep()
    (row,) = store.read("1970-01-01", "1970-01-01", [account.key])
    assert (len(row.used.key), row.used.owner) == (400, "\ufffd")
    assert [act.subject for act in store.acts()] == ["\ufffd"]
    with pytest.raises(RateLimited):
        account.enter("iris", lambda _: 1)


def test_what_was_done_is_kept_in_its_order(engine: sa.Engine) -> None:
    upgrade(engine)
    store = UsageStore(engine)
    acts = [Act(1.0, "k", "POST /models/a/load", "a"), Act(2.0, "x", "refused: POST /b", "b")]
    store.add("2027-01-31", [], acts)
    assert store.acts() == [StoredAct(*act) for act in acts]


def test_limits_are_kept(keys: KeyStore, engine: sa.Engine) -> None:
    limits = [Limit(rate=2, burst=4), Limit(models="iris*", count="instances", per_day=1000)]
    key = keys.create("a", owner="team", scopes=["admin"], expires=None, networks=[], limits=limits)
    keyring = StoreKeys(engine).read()
    assert keyring is not None
    found = keyring.find(digest_of(key))
    assert found is not None
    assert found.limits == tuple(limits)


def test_a_limit_of_before_is_kept_by_the_upgrade(engine: sa.Engine) -> None:
    upgrade(engine, to="0002")
    made = "INSERT INTO keys (id, owner, scopes, networks, created, rate, in_flight) VALUES"
    with engine.begin() as connection:
        connection.execute(sa.text(f"{made} ('a', 'team', '[]', '[]', 1, 2.5, 3)"))
        connection.execute(sa.text(f"{made} ('b', 'team', '[]', '[]', 2, NULL, NULL)"))
        of_a = "INSERT INTO secrets (digest, key_id, shown, created) VALUES ('d', 'a', 'mdy_', 1)"
        connection.execute(sa.text(of_a))
    upgrade(engine)
    limits = [key.limits for key in KeyStore(engine, actor="ada", wall_clock=Now()).list()]
    assert limits == [[{"rate": 2.5, "in_flight": 3}], []]


ROUTE = Route({"1": 95, "2": 5}, sticky="owner", guard=Guard())


def test_a_route_is_kept_with_the_one_that_was_before(engine: sa.Engine) -> None:
    upgrade(engine)
    store = RouteStore(engine, wall_clock=Now())
    store.change([(store.find("iris"), ROUTE)], actor="ada", why="a canary")
    assert store.find("iris") == StoredRoute("iris", 1, ROUTE, None)
    other = Route({"2": 100})
    store.change([(store.find("iris"), other), (store.find("rent"), ROUTE)], actor="ada", why="")
    assert store.all() == [StoredRoute("iris", 2, other, ROUTE), StoredRoute("rent", 1, ROUTE)]
    store.change([(store.find("iris"), None)], actor="ada", why="")
    assert store.find("iris") == StoredRoute("iris", 3, None, other)


def test_of_two_writers_at_once_one_is_refused_and_changes_nothing(engine: sa.Engine) -> None:
    upgrade(engine)
    store = RouteStore(engine, wall_clock=Now())
    iris, rent = store.find("iris"), store.find("rent")
    store.change([(rent, ROUTE)], actor="ada", why="")
    with pytest.raises(Conflict, match="the route of rent has been changed meanwhile"):
        store.change([(iris, ROUTE), (rent, None)], actor="bob", why="")
    assert store.all() == [StoredRoute("rent", 1, ROUTE)]


def test_a_gateway_reads_routes_and_aliases_when_they_have_changed(engine: sa.Engine) -> None:
    upgrade(engine)
    store = RouteStore(engine, wall_clock=Now())
    first = store.read()
    assert first is not None
    assert (first.routes, first.aliases) == ({}, {})
    assert store.read() is None
    store.change([(store.find("iris"), ROUTE)], actor="ada", why="")
    second = store.read()
    assert second is not None
    assert second.routes == {"iris": ROUTE}
    assert second.number > first.number
    assert store.read() is None


def test_a_route_of_a_newer_release_is_left_out_and_said_in_a_sentence(engine: sa.Engine) -> None:
    upgrade(engine)
    store = RouteStore(engine, wall_clock=Now())
    store.change([(store.find("iris"), ROUTE), (store.find("rent"), ROUTE)], actor="ada", why="")
    with engine.begin() as connection:
        newer = ROUTES.update().where(ROUTES.c.model == "rent").values(route='{"shadow": "3"}')
        connection.execute(newer)
    snapshot = RouteStore(engine, wall_clock=Now()).read()
    assert snapshot is not None
    assert list(snapshot.routes) == ["iris"]
    with pytest.raises(
        StoreError, match="the route of rent cannot be read, maybe it is of a newer"
    ):
        store.all()


async def test_a_gateway_follows_routes_once_its_older_schema_is_upgraded(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_once(url: str) -> sa.Engine:
        opened.append(url)
        return engine

    monkeypatch.setattr("modelyard.store.schema.open_engine", open_once)
    upgrade(engine, to="0004")
    snapshots: list[Snapshot] = []
    settings = Settings(state_folder=str(tmp_path), database_url="sqlite:///ours")
    reader = StoreRoutes(settings)
    follower = RouteFollower(reader, state=settings.state, replace=snapshots.append)
    for _ in range(3):
        await follower.start()
    assert snapshots == []
    upgrade(engine)
    await follower.start()
    assert len(snapshots) == len(opened) == 1


def test_the_first_change_waits_for_another_ones_first(engine: sa.Engine, keys: KeyStore) -> None:
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(1) as pool:
        with begin(engine) as first:
            count_change(first, "keys")
            made = pool.submit(create, keys, "a", "read")
            if engine.dialect.name == "postgresql":
                wait_until(lambda: first.execute(waiting).scalar(), what="the other to wait")
        assert made.result()
    with engine.connect() as connection:
        numbers = connection.execute(CHANGES.select().where(CHANGES.c.what == "keys")).all()
    assert [row.number for row in numbers] == [2]
