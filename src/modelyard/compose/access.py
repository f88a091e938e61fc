"""Chooses where keys come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelyard.access.gate import Gate
from modelyard.access.keyring import Keyring
from modelyard.access.source import FileKeys, KeySource, SourceError, follow
from modelyard.settings import Settings, SettingsError
from modelyard.store.errors import StoreError

if TYPE_CHECKING:
    from modelyard.access.tokens import Tokens


class OpenGate(NamedTuple):
    """A gate, and what keeps it up to date."""

    gate: Gate
    runs: list[Callable[[], Coroutine[None, None, None]]]


def open_gate(settings: Settings) -> OpenGate | None:
    """Return the gate that the settings ask for; None if everybody may ask.

    Raises:
        SettingsError: The keys cannot be read.
    """
    if settings.auth != "keys":
        return None
    try:
        tokens = _tokens(settings)
        source = _source(settings)
        keyring = None if source is None else source.read()
    except SourceError as error:
        raise SettingsError(f"the keys cannot be read: {error}") from error
    gate = Gate(keyring or Keyring(), clock=time.monotonic, wall_clock=time.time, tokens=tokens)
    runs: list[Callable[[], Coroutine[None, None, None]]] = []
    if source is not None:
        runs.append(partial(follow, gate, source))
    if tokens is not None:
        runs.append(partial(tokens.follow, gate.forget))
    return OpenGate(gate, runs)


def _tokens(settings: Settings) -> Tokens | None:
    if not settings.tokens_file:
        return None
    from modelyard.access.tokens import Tokens

    return Tokens(Path(settings.tokens_file))


def _source(settings: Settings) -> KeySource | None:
    """Return where the keys are; None if there are tokens alone."""
    if settings.keys_file:
        return FileKeys(Path(settings.keys_file))
    if not settings.keeps_keys_in_store:
        return None
    from modelyard.store.keys import StoreKeys
    from modelyard.store.schema import check_revision, open_engine

    try:
        engine = open_engine(settings.store_url)
        check_revision(engine)
    except StoreError as error:
        raise SettingsError(str(error)) from error
    return StoreKeys(engine)
