"""What a user can mend about the registry. Apart, since it needs none of its libraries."""

from __future__ import annotations


class RegistryError(Exception):
    """The registry cannot be used so, or what it gave is refused; the text says why."""
