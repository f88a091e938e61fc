"""What a user can mend, and how it is said."""

from __future__ import annotations

import sys

from modelyard.cli.call import CallError
from modelyard.core.errors import RequestError
from modelyard.core.manifest import ManifestError
from modelyard.folder import FolderError
from modelyard.image import ImageError
from modelyard.registry.errors import RegistryError
from modelyard.scaffold import ScaffoldError
from modelyard.settings import SettingsError
from modelyard.store.errors import StoreError

USAGE_ERROR = 2


class UsageError(Exception):
    """Something the user can mend; the text says what."""


MISTAKES = (
    *(UsageError, FolderError, ManifestError, SettingsError),
    *(ScaffoldError, CallError, ImageError, StoreError, RegistryError, RequestError),
)


def complain(text: str) -> int:
    """Say it on standard error, in one line; returns the exit code."""
    warn(text)
    return USAGE_ERROR


def warn(text: str) -> None:
    """Say it on standard error, in one line."""
    print(f"modelyard: {text}", file=sys.stderr)
