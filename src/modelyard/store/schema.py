"""Opens a database, and brings its schema up to date."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from modelyard.store.changing import WRITING
from modelyard.store.errors import StoreAway, StoreError
from modelyard.store.migrations import versions

Engine = sa.Engine

_KEPT_REVISION = sa.table("alembic_version", sa.column("version_num", sa.String))  # by Alembic
_BUSY_S = 10  # SQLite: how long a writer waits for another one
_PATIENCE = {  # PostgreSQL: a database that is silent must not hold a thread
    "connect_timeout": 5,
    "options": "-c statement_timeout=10000",
    "tcp_user_timeout": 10_000,
}

log = logging.getLogger(__name__)


def open_engine(url: str, *, makes_folder: bool = True) -> Engine:
    """Return the engine of a database, without connecting. ``makes_folder``: for SQLite's file.

    Raises:
        StoreError: The URL is none, or its driver is missing.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise StoreError(f"{parsed.drivername} is not offered; sqlite and postgresql are")
        if parsed.get_backend_name() == "sqlite" and parsed.database and makes_folder:
            Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        more = {} if parsed.get_backend_name() == "sqlite" else {"connect_args": _PATIENCE}
        engine = sa.create_engine(parsed, pool_pre_ping=True, **more)
    except sa.exc.ArgumentError as error:
        raise StoreError(f"the database's URL is none: {error}") from error
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the driver {error.name} is not here: pip install 'modelyard[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")
    # By itself Python's module would begin no transaction for what changes a schema.
    connection.isolation_level = None


def _begin_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction. One that writes waits for others at its beginning: later, with what it
    has read, it could not.
    """
    is_writing = connection.get_execution_options().get(WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def place_of(url: str) -> str:
    """Return where a database is: neither who asks nor how."""
    found = sa.make_url(url)
    if found.host is None:
        return f"{found.get_backend_name()}:///{found.database}"
    return f"{found.get_backend_name()}://{found.host}:{found.port}/{found.database}"


def revision_of(engine: Engine) -> str | None:
    """Return the revision of a database's schema; None if it has none yet. A file of SQLite that is
    not there is not made.
    """
    if is_missing(engine):
        return None
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(_KEPT_REVISION.name):
                return None
            return connection.scalar(sa.select(_KEPT_REVISION.c.version_num))
    except sa.exc.SQLAlchemyError as error:
        raise _unreachable(engine, error) from error


def newest_revision() -> str:
    """Return the revision that this code needs."""
    return max(_known_revisions())


def make_if_missing(engine: Engine) -> bool:
    """Make the schema of an SQLite that has none; returns whether it has been made."""
    if engine.dialect.name != "sqlite" or revision_of(engine) is not None:
        return False
    upgrade(engine)
    return True


def check_revision(engine: Engine, *, may_be_away: bool = False) -> None:
    """See that the schema is the one that this code knows. ``may_be_away``: whether a database that
    does not answer will do: whoever reads or writes there says so, and tries again.

    Raises:
        StoreAway: The database does not answer.
        StoreError: It is another schema; says what to run.
    """
    wanted = newest_revision()
    try:
        found = revision_of(engine)
    except StoreAway:
        if may_be_away:
            return
        raise
    if found == wanted:
        return
    if found is not None and not knows_revision(found):
        # Migrations take nothing away that the release before needs, so that it can go on, scale
        # and come back.
        log.warning("store_is_newer", extra={"schema": found, "known": wanted})
        return
    if is_missing(engine):
        raise StoreError(
            f"there is no store yet, {engine.url.database}: `modelyard keys create` and `modelyard "
            "registry push` make it, or run `modelyard store upgrade` with the same settings"
        )
    raise StoreError(
        f"the database's schema is {found or 'not there yet'}, this release needs {wanted}: "
        "run `modelyard store upgrade` with the same settings"
    )


def is_missing(engine: Engine) -> bool:
    """Return whether this is an SQLite whose file is not there yet. Connecting would make it."""
    file = engine.url.database or ""
    is_sqlite = engine.dialect.name == "sqlite"
    return is_sqlite and not (file.startswith("file:") or Path(file).is_file())


def upgrade(engine: Engine, *, to: str = "head") -> str:
    """Bring the schema up to date, or to the revision ``to``; return its revision."""
    from alembic import command  # it takes as long to import as all else here: most do without
    from alembic.config import Config

    if is_missing(engine):  # digests of keys and inputs of jobs are for its owner alone to read
        with suppress(OSError):  # which SQLite tells
            Path(engine.url.database or "").touch(mode=0o600)
    config = Config()
    config.set_main_option("script_location", "modelyard.store:migrations")
    try:
        with _migrating(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    except sa.exc.SQLAlchemyError as error:
        raise _unreachable(engine, error) from error
    return newest_revision() if to == "head" else to


@contextmanager
def _migrating(engine: Engine) -> Iterator[sa.Connection]:
    """Give a connection in one transaction, which is kept whole or not at all.

    SQLite changes a table by making it anew, so rows that refer to it are looked at when all is
    done, and not while it is away.
    """
    with engine.connect() as connection:
        connection.execution_options(**{WRITING: True})
        is_sqlite = engine.dialect.name == "sqlite"
        if is_sqlite:
            _watch_references(connection, "OFF")
        try:
            with connection.begin():
                yield connection
                if is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise StoreError(f"{engine.url}: rows refer to rows that are not there")
        finally:
            if is_sqlite:
                _watch_references(connection, "ON")


def _watch_references(connection: sa.Connection, state: str) -> None:
    """Switch it where no transaction is begun: in one, SQLite ignores this."""
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(f"PRAGMA foreign_keys = {state}")


def back_up(engine: Engine, path: Path) -> None:
    """Copy a database of SQLite to a file, also while it is used.

    Raises:
        StoreError: It is another database, or the file is there already.
    """
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database:
        raise StoreError("this copies SQLite; use pg_dump for PostgreSQL")
    if path.exists():
        raise StoreError(f"{path} is there already")
    if not Path(database).exists():
        raise StoreError(f"there is no store at {database}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)


def knows_revision(revision: str) -> bool:
    """Return whether this release knows a revision; it does not know those of newer ones."""
    return revision in _known_revisions()


def _known_revisions() -> set[str]:
    """Return the revisions of this release: the files of its migrations begin with them."""
    files = resources.files(versions).iterdir()
    return {number for file in files if (number := file.name.partition("_")[0]).isdecimal()}


def _unreachable(engine: Engine, error: Exception) -> StoreError:
    where = engine.url.render_as_string(hide_password=True)
    is_away = isinstance(error, sa.exc.OperationalError) and engine.dialect.name != "sqlite"
    return (StoreAway if is_away else StoreError)(f"{where}: {str(error).splitlines()[0]}")
