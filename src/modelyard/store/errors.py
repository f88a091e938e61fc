"""What a user can mend about the store. Its libraries are imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine


class StoreError(Exception):
    """The database cannot be used; the text says why and what to do."""


class StoreAway(StoreError):
    """The database does not answer now; it may be back later."""


@contextmanager
def telling(engine: Engine) -> Iterator[None]:
    """Say in a sentence what the database says."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"{where}: {str(error).splitlines()[0]}") from error
