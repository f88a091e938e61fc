"""What all changes of the store have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.store.errors import telling
from modelyard.store.tables import CHANGES

WRITING = "is_writing"  # option of a connection
INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""By dialect: what is inserted or, where it is there already, updated. Both types have the same
methods."""


@contextmanager
def changing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction, which is kept whole or not at all.

    Raises:
        StoreError: The database does not do as it is told.
    """
    with telling(engine), begin(engine) as connection:
        yield connection


@contextmanager
def begin(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that writes."""
    with engine.connect() as connection:
        connection.execution_options(**{WRITING: True})
        with connection.begin():
            yield connection


def count_change(connection: sa.Connection, what: str) -> None:
    """Let readers know that something has changed. As the first of a transaction, it also keeps
    others that change the same waiting.
    """
    made = INSERTS[connection.dialect.name](CHANGES).values(what=what, number=1)
    grown = {"number": CHANGES.c.number + 1}
    connection.execute(made.on_conflict_do_update(index_elements=["what"], set_=grown))
