"""Routes in the store: shown, set, taken back; and read by gateways, with the aliases."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from modelyard.core.clock import Clock
from modelyard.core.errors import Conflict
from modelyard.core.routes import Route, Snapshot, warm_after
from modelyard.store.changing import changing, count_change
from modelyard.store.errors import StoreError, telling
from modelyard.store.tables import ALIASES, AUDIT, CHANGES, ROUTES

_WHAT = "routes"
_MOST_SHOWN = 256
_READ = (_WHAT, "registry")

log = logging.getLogger(__name__)


class StoredRoute(NamedTuple):
    """A model's route as it is kept.

    Attributes:
        model: Name of the model.
        number: Grows with each change; 0 if there was none.
        route: None if requests go to the default version.
        before: What a rollback brings back.
        warm: Until when versions stay up though they get nothing, as Unix time, by version.
    """

    model: str
    number: int = 0
    route: Route | None = None
    before: Route | None = None
    warm: Mapping[str, float] = {}


class RouteStore:
    """The routes in a database. All methods raise StoreError.

    Args:
        engine: Of the database, whose schema is up to date.
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, engine: sa.Engine, *, wall_clock: Clock) -> None:
        self._engine = engine
        self._wall_clock = wall_clock
        self._known: list[tuple[str, int]] | None = None

    def all(self) -> list[StoredRoute]:
        """Return all routes, by model."""
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(ROUTES.select().order_by(ROUTES.c.model)).all()
        return [_stored(row) for row in rows]

    def find(self, model: str) -> StoredRoute:
        """Return a model's route."""
        with telling(self._engine), self._engine.connect() as connection:
            return _found(connection, model)

    def change(
        self, routes: Iterable[tuple[StoredRoute, Route | None]], *, actor: str, why: str
    ) -> None:
        """Replace routes, all or none. Each comes with what it was when it was looked at.

        Raises:
            Conflict: One is not what it was: somebody else has changed it.
        """
        with changing(self._engine) as connection:
            count_change(connection, _WHAT)
            for was, route in routes:
                now = _found(connection, was.model)
                if now.number != was.number:
                    raise Conflict(
                        f"the route of {was.model} has been changed meanwhile: look at it again"
                    )
                at = self._wall_clock()
                before = now.before if _leads_alike(route, now.route) else now.route
                values = {
                    "number": now.number + 1,
                    "route": _encode(route),
                    "before": _encode(before),
                    "warm": warm_after(now.route, route, now.warm, now=at) or None,
                }
                if now.number:
                    is_it = ROUTES.c.model == was.model
                    connection.execute(ROUTES.update().where(is_it).values(values))
                else:
                    connection.execute(ROUTES.insert().values(model=was.model, **values))
                act = {"at": at, "actor": actor[:128], "action": "route set"}
                told = {"what": tell(route), "was": tell(now.route), "why": why}
                connection.execute(AUDIT.insert().values(**act, subject=was.model, **told))

    def read(self, *, is_anew: bool = False) -> Snapshot | None:
        """Return routes and aliases for a gateway; None if they have not changed since the last
        call, unless ``is_anew``.
        """
        counters = sa.select(CHANGES.c.what, CHANGES.c.number).where(CHANGES.c.what.in_(_READ))
        with telling(self._engine), self._engine.connect() as connection:
            numbers = sorted((row.what, row.number) for row in connection.execute(counters))
            if numbers == self._known and not is_anew:
                return None
            rows = connection.execute(ROUTES.select()).all()
            aliases: dict[str, dict[str, str]] = {}
            for row in connection.execute(ALIASES.select()):
                aliases.setdefault(row.name, {})[row.alias] = row.version
        found: dict[str, Route] = {}
        for row in rows:
            if row.route is None:
                continue
            try:  # a newer release may have routes that we do not know
                found[row.model] = msgspec.json.decode(row.route, type=Route)
            except msgspec.MsgspecError as error:
                log.error("route_left_out", extra={"model": row.model, "why": str(error)})
        self._known = numbers
        settings = {row.model: row.number for row in rows if row.model in found}
        warm = {row.model: row.warm for row in rows if row.warm}
        return Snapshot(sum(number for _, number in numbers), found, aliases, settings, warm)


def tell(route: Route | None) -> str:
    """Return a route in a few words."""
    if route is None:
        return "no route"
    weights = " ".join(f"{version}={weight:g}" for version, weight in route.weights.items())
    sticky = "" if route.sticky == "no" else f" sticky={route.sticky}"
    guard = "" if route.guard is None else " guarded"
    shadow = ""
    if route.shadow is not None:
        shadow = f" shadow={route.shadow.version} ({route.shadow.percent:g} %)"
    warm = f" keep-warm={route.keep_warm}" if route.keep_warm else ""
    return f"{weights}{sticky}{guard}{shadow}{warm}"[:_MOST_SHOWN]


def _leads_alike(one: Route | None, other: Route | None) -> bool:
    """Return whether two routes are the same, but for what is kept warm."""
    routes = [route and msgspec.structs.replace(route, keep_warm="") for route in (one, other)]
    return routes[0] == routes[1]


def _found(connection: sa.Connection, model: str) -> StoredRoute:
    row = connection.execute(ROUTES.select().where(ROUTES.c.model == model)).one_or_none()
    return StoredRoute(model) if row is None else _stored(row)


def _stored(row: sa.Row[Any]) -> StoredRoute:
    try:
        route, before = map(_decode, (row.route, row.before))
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"the route of {row.model} cannot be read, maybe it is of a newer release: {error}"
        ) from error
    return StoredRoute(row.model, row.number, route, before, row.warm or {})


def _encode(route: Route | None) -> str | None:
    return None if route is None else msgspec.json.encode(route).decode()


def _decode(text: str | None) -> Route | None:
    return None if text is None else msgspec.json.decode(text, type=Route)
