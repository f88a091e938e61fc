"""What a gateway keeps in its folder for state, for a start while the store is away."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from modelyard.access.keyring import Key, Keyring
from modelyard.access.source import KeySource, SourceError

T = TypeVar("T")

log = logging.getLogger(__name__)


class _Kept(msgspec.Struct):
    store: str
    keys: list[Key]


class KeptKeys:
    """Keys of a store, and a copy of what was read last. See ``access.source.KeySource``.

    The copy is used once, if the first reading fails. It has digests, of which no key can be made,
    and is for nobody else to read.

    Args:
        source: The keys in the store.
        path: Of the copy.
        store: Names the store: a copy of another one's keys is not used.
    """

    def __init__(self, source: KeySource, path: Path, *, store: str) -> None:
        self._source = source
        self._path = path
        self._store = store
        self._has_keys = False

    def read(self) -> Keyring | None:
        """See ``KeySource``."""
        try:
            keyring = self._source.read()
        except SourceError as error:
            keyring = None if self._has_keys else self._recall()
            if keyring is None:
                raise
            log.error("keys_read_from_copy", extra={"keys": len(keyring), "why": str(error)})
        else:
            if keyring is not None:
                save(self._path, _Kept(self._store, list(keyring.keys)))
        self._has_keys = True
        return keyring

    def _recall(self) -> Keyring | None:
        kept = load(self._path, _Kept)
        if kept is None or kept.store != self._store:
            return None
        with contextlib.suppress(ValueError):  # a newer release may have had scopes of its own
            return Keyring(kept.keys)
        return None


def save(path: Path, what: msgspec.Struct) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            new = Path(file.name)
            try:
                file.write(msgspec.json.encode(what))
                file.flush()
                new.replace(path)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
    except OSError as error:  # it is for the next start alone
        log.warning("state_not_kept", extra={"path": str(path), "why": str(error)})


def load(path: Path, kind: type[T]) -> T | None:
    """Return what was saved; None if there is nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
