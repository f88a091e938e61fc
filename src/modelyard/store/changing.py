"""What all changes of the store have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from modelyard.store.errors import telling
from modelyard.store.tables import CHANGES

WRITING = "is_writing"  # option of a connection


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
    grown = CHANGES.update().where(CHANGES.c.what == what).values(number=CHANGES.c.number + 1)
    if not connection.execute(grown).rowcount:
        connection.execute(CHANGES.insert().values(what=what, number=1))
