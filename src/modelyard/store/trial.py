"""Looks at a database, for ``modelyard doctor``: it changes nothing there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from modelyard.store.errors import telling
from modelyard.store.schema import (
    is_missing,
    knows_revision,
    newest_revision,
    open_engine,
    revision_of,
)
from modelyard.store.tables import METADATA

_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Seen(NamedTuple):
    """What there is of a database.

    Attributes:
        product: Its name and version.
        is_there: False for an SQLite whose file has not been made yet.
        revision: Of its schema; None if it has none.
        wanted: The revision that this release needs.
        is_newer: Whether a newer release has changed the schema.
        lacking: Rights that our user lacks, as ``INSERT on jobs``.
        ahead_s: How far its clock is ahead of ours, in seconds; None on this machine.
    """

    product: str
    is_there: bool
    revision: str | None
    wanted: str
    is_newer: bool
    lacking: list[str]
    ahead_s: float | None


def look(url: str) -> Seen:
    """Look at a database.

    Raises:
        StoreError: It cannot be reached, or refuses us.
    """
    engine = open_engine(url, makes_folder=False)
    try:
        wanted = newest_revision()
        if is_missing(engine):
            return Seen("SQLite", False, None, wanted, False, [], None)
        with telling(engine):
            found = revision_of(engine)
            is_current = found == wanted
            with engine.connect() as connection:
                if engine.dialect.name == "sqlite":
                    version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
                    lacking, ahead_s = _lacking_of_file(engine), None
                    product = f"SQLite {version}"
                else:
                    version = connection.exec_driver_sql("SHOW server_version").scalar_one()
                    product = f"PostgreSQL {str(version).split()[0]}"
                    lacking = _lacking(connection) if is_current else []
                    ahead_s = _ahead(connection)
        is_newer = found is not None and not knows_revision(found)
        return Seen(product, True, found, wanted, is_newer, lacking, ahead_s)
    finally:
        engine.dispose()


def _lacking(connection: sa.Connection) -> list[str]:
    may = sa.text("SELECT has_table_privilege(current_user, :named, :right)")
    return [
        f"{right} on {table}"
        for table in METADATA.tables
        for right in _RIGHTS
        if not connection.execute(may, {"named": f'"{table}"', "right": right}).scalar_one()
    ]


def _lacking_of_file(engine: sa.Engine) -> list[str]:
    file = Path(engine.url.database or "")
    return [f"writing {path}" for path in (file, file.parent) if not os.access(path, os.W_OK)]


def _ahead(connection: sa.Connection) -> float:
    before = time.time()
    found = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one()
    return float(found) - (before + time.time()) / 2
