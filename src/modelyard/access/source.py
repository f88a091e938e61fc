"""Where keys come from, and how a gateway's keyring follows it."""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from modelyard.access.gate import Gate
from modelyard.access.keyring import Key, Keyring
from modelyard.access.limits import AMOUNTS, Count, Limit, check_quotas

REFRESH_S = 1.0  # a key that is revoked is of no use twice as long after at the latest

log = logging.getLogger(__name__)


class SourceError(Exception):
    """The keys cannot be read; the text says where and why."""


class KeySource(Protocol):
    """Where keys are kept."""

    def read(self) -> Keyring | None:
        """Return the keys; None if they have not changed since the last call. May block.

        Raises:
            SourceError: They cannot be read.
        """
        ...


class _FileKey(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    owner: str
    scopes: list[str]
    expires: datetime | None = None
    networks: list[str] = []
    count: Count = "requests"  # this and the next: a limit for all models
    rate: float | None = None
    burst: float | None = None
    in_flight: int | None = None
    per_day: float | None = None
    per_month: float | None = None
    limits: list[Limit] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_FileKey] = []


class FileKeys:
    """Keys in a TOML file; `modelyard keys create --toml` prints what belongs there.

    Args:
        path: The file.
        has_book: Whether usage is kept, which limits of a day or month need.
    """

    def __init__(self, path: Path, *, has_book: bool) -> None:
        self._path = path
        self._has_book = has_book
        self._known = b""

    def read(self) -> Keyring | None:
        """See ``KeySource``."""
        try:
            text = self._path.read_bytes()
            if text == self._known:
                return None
            found = msgspec.convert(tomllib.loads(text.decode()), _File)
            twice = [name for name, n in Counter(key.id for key in found.keys).items() if n > 1]
            if twice:
                raise ValueError(f"two keys have the id {twice[0]!r}")
            keys = list(map(_to_key, found.keys))
            for key in keys:
                check_quotas(key.limits, has_book=self._has_book)
            keyring = Keyring(keys)
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(f"{self._path}: {error}") from error
        self._known = text
        return keyring


def _to_key(found: _FileKey) -> Key:
    expires = found.expires
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return Key(
        id=found.id,
        digest=found.digest,
        owner=found.owner,
        scopes=tuple(found.scopes),
        expires=None if expires is None else expires.timestamp(),
        networks=tuple(found.networks),
        limits=(*_own_limit(found), *found.limits),
    )


def _own_limit(found: _FileKey) -> list[Limit]:
    """Return the limit that stands in the entry itself."""
    amounts = {name: getattr(found, name) for name in AMOUNTS}
    given = {name: amount for name, amount in amounts.items() if amount is not None}
    return [Limit(count=found.count, **given)] if given else []


async def follow(gate: Gate, source: KeySource) -> None:
    """Replace the gate's keyring when its source changes, until cancelled. While the source cannot
    be read, the last keyring stays.
    """
    is_well = True
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            keyring = await asyncio.to_thread(source.read)
        except Exception as error:  # whatever is wrong with it must not end the server
            if is_well:
                log.error("keys_not_read", extra={"why": str(error)})
            is_well = False
            continue
        if not is_well:
            log.info("keys_read_again")
        is_well = True
        if keyring is not None:
            gate.replace(keyring)
            log.info("keys_read", extra={"keys": len(keyring)})
