"""Versions of models in the store, and the aliases that stand for them.

A change begins with the counter of changes, so that changes wait for one another: what a push has
seen to be there is there until its row is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from modelyard.core.clock import Clock
from modelyard.core.errors import Conflict, ModelNotFound, VersionNotFound
from modelyard.core.names import Target, version_order
from modelyard.core.routes import Route
from modelyard.core.versions import Change, Contents, VersionDetails, VersionSummary
from modelyard.store.changing import changing, count_change
from modelyard.store.errors import telling
from modelyard.store.tables import ALIASES, AUDIT, FILES, ROUTES, VERSIONS

_WHAT = "registry"
_MOST_ACTOR = 128  # characters
_MOST_NAMED = 30  # in an error
_ACTIONS = ("version pushed", "version removed", "alias set", "alias removed")
_SUMMARY = [column for column in VERSIONS.c if column.name not in ("contents", "removed")]
_IS_THERE = VERSIONS.c.removed.is_(None)


class VersionStore:
    """The versions in a database.

    Args:
        engine: Of the database, whose schema is up to date.
        wall_clock: Unix time, in seconds.

    All methods raise StoreError if the database does not do as it is told.
    """

    def __init__(self, engine: sa.Engine, *, wall_clock: Clock) -> None:
        self._engine = engine
        self._wall_clock = wall_clock

    def versions(self, name: str | None = None) -> list[VersionSummary]:
        """Return all versions, or those of a model: models by name, the newest version last."""
        query = sa.select(*_SUMMARY).where(_IS_THERE)
        names = ALIASES.select()
        if name is not None:
            query, names = query.where(VERSIONS.c.name == name), names.where(ALIASES.c.name == name)
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query).all()
            aliases = _by_target(connection.execute(names))
        found = [_summary(row, aliases) for row in rows]
        return sorted(found, key=lambda one: (one.name, version_order(one.version)))

    def find(self, target: Target) -> VersionDetails:
        """Return a version.

        Raises:
            ModelNotFound: The model has none.
            VersionNotFound: It has others; says which.
        """
        with telling(self._engine), self._engine.connect() as connection:
            row = self._row_of(connection, target)
            names = ALIASES.select().where(ALIASES.c.name == target.name)
            return _details(row, _by_target(connection.execute(names)))

    def resolve(self, name: str, reference: str) -> str:
        """Return the version that a reference means: an alias, or a version.

        Raises:
            ModelNotFound: The model has no versions.
            VersionNotFound: It has others; says which.
        """
        with telling(self._engine), self._engine.connect() as connection:
            meant = self._alias(connection, name, reference) or reference
            return str(self._row_of(connection, Target(name, meant)).version)

    def add(
        self, target: Target, contents: Contents, *, actor: str, check: Callable[[], None]
    ) -> VersionDetails:
        """Keep a version, and return it; one that is there with the same digest stays as it is.

        ``check`` is called while nothing can be removed; it raises if an artefact is missing.

        Raises:
            Conflict: The version is there with another content, or its name is an alias.
        """
        digest = contents.digest
        with changing(self._engine) as connection:
            count_change(connection, _WHAT)
            row = connection.execute(VERSIONS.select().where(_is(target))).one_or_none()
            if row is not None and row.digest != digest:
                gone = " (it was removed since, and its name stays taken)" if row.removed else ""
                raise Conflict(
                    f"{target} is in the registry with the digest {row.digest}{gone}, and this one "
                    f"has {digest}: a version does not change, so push it as another one"
                )
            if meant := self._alias(connection, target.name, target.version):
                raise Conflict(
                    f"{target.version} is an alias of {target.name}, which stands for {meant}: "
                    "remove the alias, or push as another version"
                )
            if row is None or row.removed is not None:
                check()
                self._insert(connection, target, contents, actor=actor, is_back=row is not None)
            elif contents.signature and not row.is_signed:
                raise Conflict(
                    f"{target} is in the registry without a signature, and a version does not "
                    "change: push it as another one"
                )
        return self.find(target)

    def set_alias(self, target: Target, alias: str, *, actor: str, why: str) -> str:
        """Let an alias stand for a version; returns the one that it stood for, or empty.

        Raises:
            ModelNotFound: The model has no versions.
            VersionNotFound: It has others; says which.
            Conflict: The model has a version of this name.
        """
        name, version = target.name, target.version
        with changing(self._engine) as connection:
            count_change(connection, _WHAT)
            self._row_of(connection, target)
            if connection.execute(VERSIONS.select().where(_is(Target(name, alias)))).one_or_none():
                raise Conflict(f"{name} has a version {alias}, so no alias can be called so")
            was = self._alias(connection, name, alias)
            if was == version:
                return was
            if was is None:
                values = {"name": name, "alias": alias, "version": version}
                connection.execute(ALIASES.insert().values(values))
            else:
                is_it = sa.and_(ALIASES.c.name == name, ALIASES.c.alias == alias)
                connection.execute(ALIASES.update().where(is_it).values(version=version))
            change = self._change(actor, "alias set", f"{alias}={version}", why=why)
            self._note(connection, name, change, was="" if was is None else f"{alias}={was}")
        return was or ""

    def remove_alias(self, name: str, alias: str, *, actor: str, why: str) -> None:
        """Let an alias stand for nothing.

        Raises:
            VersionNotFound: There is no such alias; says which there are.
        """
        with changing(self._engine) as connection:
            count_change(connection, _WHAT)
            was = self._alias(connection, name, alias)
            if was is None:
                raise self._unknown(connection, Target(name, alias))
            is_it = sa.and_(ALIASES.c.name == name, ALIASES.c.alias == alias)
            connection.execute(ALIASES.delete().where(is_it))
            change = self._change(actor, "alias removed", alias, why=why)
            self._note(connection, name, change, was=f"{alias}={was}")

    def remove(self, targets: Iterable[Target], *, actor: str, why: str) -> list[Target]:
        """Remove versions, and return them; what an alias or a route names stays. Their artefacts
        are then needed no longer, their names and digests stay taken.
        """
        removed = []
        with changing(self._engine) as connection:
            count_change(connection, _WHAT)
            for target in targets:
                row = connection.execute(VERSIONS.select().where(_is(target), _IS_THERE))
                is_it = sa.and_(ALIASES.c.name == target.name, ALIASES.c.version == target.version)
                is_named = connection.execute(ALIASES.select().where(is_it)).first()
                if (
                    (found := row.one_or_none()) is None
                    or is_named
                    or _is_routed(connection, target)
                ):
                    continue
                now = self._wall_clock()
                connection.execute(VERSIONS.update().where(_is(target)).values(removed=now))
                is_of = sa.and_(FILES.c.name == target.name, FILES.c.version == target.version)
                connection.execute(FILES.delete().where(is_of))
                change = self._change(actor, "version removed", target.version, why=why)
                self._note(connection, target.name, change, was=found.digest)
                removed.append(target)
        return removed

    def remove_unneeded(self, digests: Sequence[str], remove: Callable[[str], None]) -> list[str]:
        """Call ``remove`` with each of some artefacts that no version needs, and return them. No
        version is added meanwhile.
        """
        with changing(self._engine) as connection:
            count_change(connection, _WHAT)
            needed = sa.select(FILES.c.digest).where(FILES.c.digest.in_(digests))
            kept = set(connection.execute(needed).scalars())
            unneeded = [digest for digest in digests if digest not in kept]
            for digest in unneeded:
                remove(digest)
        return unneeded

    def audit(self, name: str) -> list[Change]:
        """Return who did what to a model's versions and aliases, the newest last."""
        query = AUDIT.select().where(AUDIT.c.subject == name, AUDIT.c.action.in_(_ACTIONS))
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(AUDIT.c.id)).all()
        return [
            Change(
                at=row.at,
                actor=row.actor,
                action=row.action,
                what=row.what,
                was=row.was or "",
                why=row.why or "",
            )
            for row in rows
        ]

    def _insert(
        self,
        connection: sa.Connection,
        target: Target,
        contents: Contents,
        *,
        actor: str,
        is_back: bool,
    ) -> None:
        values = {
            "digest": contents.digest,
            "size": contents.size,
            "contents": msgspec.json.encode(contents).decode(),
            "is_signed": bool(contents.signature),
            "pushed_at": self._wall_clock(),
            "pushed_by": actor[:_MOST_ACTOR],
            "removed": None,
        }
        key = {"name": target.name, "version": target.version}
        if is_back:
            connection.execute(VERSIONS.update().where(_is(target)).values(values))
        else:
            connection.execute(VERSIONS.insert().values(**key, **values))
        digests = {file.digest for file in contents.files}
        rows = [{**key, "digest": digest} for digest in sorted(digests)]
        connection.execute(FILES.insert(), rows)
        change = self._change(actor, "version pushed", target.version)
        self._note(connection, target.name, change)

    def _row_of(self, connection: sa.Connection, target: Target) -> sa.Row[Any]:
        row = connection.execute(VERSIONS.select().where(_is(target), _IS_THERE)).one_or_none()
        if row is None:
            raise self._unknown(connection, target)
        return row

    def _alias(self, connection: sa.Connection, name: str, alias: str) -> str | None:
        query = sa.select(ALIASES.c.version).where(ALIASES.c.name == name, ALIASES.c.alias == alias)
        found: str | None = connection.execute(query).scalar_one_or_none()
        return found

    def _unknown(
        self, connection: sa.Connection, target: Target
    ) -> ModelNotFound | VersionNotFound:
        """Return the error of a version or alias that is not there, with those that are."""
        name = target.name
        query = sa.select(VERSIONS.c.version).where(VERSIONS.c.name == name, _IS_THERE)
        versions = sorted(connection.execute(query).scalars(), key=version_order)
        if not versions:
            return ModelNotFound(
                f"the registry has no model {name}; GET /registry/models lists all"
            )
        shown = ", ".join(versions[-_MOST_NAMED:])
        names = ALIASES.select().where(ALIASES.c.name == name).order_by(ALIASES.c.alias)
        aliases = [f"{row.alias} ({row.version})" for row in connection.execute(names)]
        also = f"; its aliases: {', '.join(aliases[:_MOST_NAMED])}" if aliases else ""
        return VersionNotFound(
            f"{name} has no version or alias {target.version}; its versions: {shown}{also}"
        )

    def _change(self, actor: str, action: str, what: str, *, why: str = "") -> Change:
        actor = actor[:_MOST_ACTOR]
        return Change(at=self._wall_clock(), actor=actor, action=action, what=what, why=why)

    def _note(self, connection: sa.Connection, name: str, change: Change, *, was: str = "") -> None:
        values = msgspec.structs.asdict(change) | {"subject": name, "was": was}
        connection.execute(AUDIT.insert().values(values))


def _is_routed(connection: sa.Connection, target: Target) -> bool:
    """Return whether a route leads to a version, or would after a rollback."""
    row = connection.execute(ROUTES.select().where(ROUTES.c.model == target.name)).one_or_none()
    texts = () if row is None else (row.route, row.before)
    routes = [msgspec.json.decode(text, type=Route) for text in texts if text is not None]
    return any(target.version in route.weights for route in routes)


def _is(target: Target) -> sa.ColumnElement[bool]:
    return sa.and_(VERSIONS.c.name == target.name, VERSIONS.c.version == target.version)


def _by_target(rows: Iterable[sa.Row[Any]]) -> dict[Target, tuple[str, ...]]:
    found: dict[Target, tuple[str, ...]] = {}
    for row in sorted(rows, key=lambda row: str(row.alias)):
        target = Target(row.name, row.version)
        found[target] = (*found.get(target, ()), row.alias)
    return found


def _fields(row: sa.Row[Any], aliases: dict[Target, tuple[str, ...]]) -> dict[str, Any]:
    fields = {column.name: getattr(row, column.name) for column in _SUMMARY}
    return fields | {"aliases": aliases.get(Target(row.name, row.version), ())}


def _summary(row: sa.Row[Any], aliases: dict[Target, tuple[str, ...]]) -> VersionSummary:
    return VersionSummary(**_fields(row, aliases))


def _details(row: sa.Row[Any], aliases: dict[Target, tuple[str, ...]]) -> VersionDetails:
    contents = msgspec.json.decode(row.contents, type=Contents)
    return VersionDetails(**_fields(row, aliases), contents=contents)
