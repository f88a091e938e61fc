"""Says that the book of jobs is away where the database does not do as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from modelyard.jobs.interfaces import BookAway


@contextmanager
def away(engine: sa.Engine) -> Iterator[None]:
    """Raise a BookAway for what the database raises."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise BookAway(f"{where}: {str(error).splitlines()[0]}") from error
