"""Chooses where keys come from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from modelyard.access.gate import Gate
from modelyard.access.source import FileKeys, KeySource, SourceError
from modelyard.settings import Settings, SettingsError
from modelyard.store.errors import StoreError


class OpenGate(NamedTuple):
    """A gate, and what its keys come from."""

    gate: Gate
    source: KeySource


def open_gate(settings: Settings) -> OpenGate | None:
    """Return the gate that the settings ask for; None if everybody may ask.

    Raises:
        SettingsError: The keys cannot be read.
    """
    if settings.auth != "keys":
        return None
    try:
        source = _source(settings)
        keyring = source.read()
    except SourceError as error:
        raise SettingsError(f"the keys cannot be read: {error}") from error
    assert keyring is not None  # it was read for the first time
    return OpenGate(Gate(keyring, clock=time.monotonic, wall_clock=time.time), source)


def _source(settings: Settings) -> KeySource:
    if settings.keys_file:
        return FileKeys(Path(settings.keys_file))
    from modelyard.store.keys import StoreKeys
    from modelyard.store.schema import check_revision, open_engine

    try:
        engine = open_engine(settings.store_url)
        check_revision(engine)
    except StoreError as error:
        raise SettingsError(str(error)) from error
    return StoreKeys(engine)
