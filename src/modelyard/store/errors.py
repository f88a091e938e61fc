"""What a user can mend about the store. Apart, since it needs none of the store's libraries."""

from __future__ import annotations


class StoreError(Exception):
    """The database cannot be used; the text says why and what to do."""
