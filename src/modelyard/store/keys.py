"""Keys in the store: made, listed, replaced, revoked; and read by gateways."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from modelyard.access.keyring import Key, Keyring, Principal
from modelyard.access.keys import SHOWN, digest_of, new_key
from modelyard.access.limits import Limit
from modelyard.access.source import SourceError
from modelyard.core.clock import Clock
from modelyard.store.changing import changing, count_change
from modelyard.store.errors import StoreError
from modelyard.store.tables import AUDIT, CHANGES, KEYS, SECRETS

log = logging.getLogger(__name__)

_WHAT = "keys"


class StoredKey(NamedTuple):
    """A key as it is listed. Times are Unix time, in seconds; ``shown`` are its first letters."""

    id: str
    owner: str
    scopes: Sequence[str]
    networks: Sequence[str]
    created: float
    expires: float | None
    revoked: float | None
    limits: Sequence[dict[str, Any]]
    shown: Sequence[str]


class KeyStore:
    """The keys in a database.

    Args:
        engine: Of the database, whose schema is up to date.
        actor: Who changes something, for the audit.
        wall_clock: Unix time, in seconds.

    All methods raise StoreError if the database does not do as it is told.
    """

    def __init__(self, engine: sa.Engine, *, actor: str, wall_clock: Clock) -> None:
        self._engine = engine
        self._actor = actor
        self._wall_clock = wall_clock

    def create(
        self,
        key_id: str,
        *,
        owner: str,
        scopes: Sequence[str],
        expires: float | None,
        networks: Sequence[str],
        limits: Sequence[Limit] = (),
    ) -> str:
        """Make a key, and return it. It cannot be read again."""
        key, now = new_key(), self._wall_clock()
        made = {
            "id": key_id,
            "owner": owner,
            "scopes": list(scopes),
            "networks": list(networks),
            "created": now,
            "expires": expires,
            "limits": [_to_row(limit) for limit in limits],
        }
        try:
            with changing(self._engine) as connection:
                connection.execute(KEYS.insert().values(made))
                self._add_secret(connection, key_id, key)
                self._note(connection, "key created", key_id)
        except StoreError as error:
            if isinstance(error.__cause__, sa.exc.IntegrityError):
                raise StoreError(f"there is a key {key_id!r} already") from error
            raise
        return key

    def rotate(self, key_id: str, *, grace_s: float) -> str:
        """Return a new key in place of one, which is valid for ``grace_s`` more."""
        key, now = new_key(), self._wall_clock()
        with changing(self._engine) as connection:
            self._find(connection, key_id)
            end = now + grace_s
            is_longer = sa.or_(SECRETS.c.expires.is_(None), SECRETS.c.expires > end)
            connection.execute(
                SECRETS.update().where(SECRETS.c.key_id == key_id, is_longer).values(expires=end)
            )
            self._add_secret(connection, key_id, key)
            self._note(connection, "key rotated", key_id)
        return key

    def revoke(self, key_id: str) -> None:
        """Make a key invalid for ever."""
        with changing(self._engine) as connection:
            self._find(connection, key_id)
            now = self._wall_clock()
            connection.execute(KEYS.update().where(KEYS.c.id == key_id).values(revoked=now))
            self._note(connection, "key revoked", key_id)

    def list(self) -> list[StoredKey]:
        """Return all keys, the newest last."""
        with changing(self._engine) as connection:
            shown: dict[str, list[str]] = {}
            for row in connection.execute(SECRETS.select().order_by(SECRETS.c.created)):
                shown.setdefault(row.key_id, []).append(row.shown)
            return [
                StoredKey(**row._mapping, shown=shown.get(row.id, ()))
                for row in connection.execute(KEYS.select().order_by(KEYS.c.created))
            ]

    def _find(self, connection: sa.Connection, key_id: str) -> sa.Row[Any]:
        found = connection.execute(KEYS.select().where(KEYS.c.id == key_id)).one_or_none()
        if found is None:
            raise StoreError(f"there is no key {key_id!r}; `modelyard keys list` has them all")
        if found.revoked is not None:
            raise StoreError(f"the key {key_id!r} is revoked")
        return found

    def _add_secret(self, connection: sa.Connection, key_id: str, key: str) -> None:
        made = {
            "digest": digest_of(key),
            "key_id": key_id,
            "shown": key[:SHOWN],
            "created": self._wall_clock(),
        }
        connection.execute(SECRETS.insert().values(made))

    def _note(self, connection: sa.Connection, action: str, subject: str) -> None:
        """Write it down, and let readers know that something has changed."""
        made = {"at": self._wall_clock(), "actor": self._actor}
        connection.execute(AUDIT.insert().values(**made, action=action, subject=subject))
        count_change(connection, _WHAT)


class StoreKeys:
    """The keys in a database, for a gateway: see ``access.source.KeySource``."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: int | None = None

    def read(self) -> Keyring | None:
        """See ``KeySource``. What has expired stays in: the gate looks at the time."""
        number = sa.select(CHANGES.c.number).where(CHANGES.c.what == _WHAT)
        query = sa.select(KEYS, SECRETS.c.digest, SECRETS.c.expires.label("secret_expires")).join(
            SECRETS, SECRETS.c.key_id == KEYS.c.id
        )
        try:
            with self._engine.connect() as connection:
                found = connection.execute(number).scalar_one_or_none() or 0
                if found == self._known:
                    return None
                rows = connection.execute(query.where(KEYS.c.revoked.is_(None))).all()
        except sa.exc.SQLAlchemyError as error:
            where = self._engine.url.render_as_string(hide_password=True)
            raise SourceError(f"{where}: {str(error).splitlines()[0]}") from error
        keys = []
        for row in rows:
            try:  # a newer release may know scopes and limits that we do not
                Principal(key := _key_of(row))
            except ValueError as error:  # msgspec's is one
                log.error("key_left_out", extra={"key": row.id, "why": str(error)})
                continue
            keys.append(key)
        keyring = Keyring(keys)
        self._known = found
        return keyring


def _to_row(limit: Limit) -> dict[str, Any]:
    given = msgspec.structs.asdict(limit)
    return {name: value for name, value in given.items() if value is not None}


def _key_of(row: sa.Row[Any]) -> Key:
    ends = [moment for moment in (row.expires, row.secret_expires) if moment is not None]
    return Key(
        id=row.id,
        digest=row.digest,
        owner=row.owner,
        scopes=tuple(row.scopes),
        expires=min(ends, default=None),
        networks=tuple(row.networks),
        limits=tuple(msgspec.convert(limit, Limit) for limit in row.limits),
    )
