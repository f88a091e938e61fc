"""``route`` and ``apply``: how a model's requests are spread over its versions."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.cli.asking import gateway_url
from modelyard.cli.mistakes import UsageError, warn
from modelyard.cli.storing import open_engine, user
from modelyard.cli.telling import print_table, tell_moment
from modelyard.core.durations import duration_s
from modelyard.core.errors import Conflict
from modelyard.core.routes import ALL, Guard, Route, Shadow
from modelyard.settings import load_settings

if TYPE_CHECKING:
    from modelyard.store.routes import RouteStore, StoredRoute


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What ``apply`` reads: a table for each model."""

    routes: dict[str, Route]


def show(options: argparse.Namespace) -> None:
    """Show routes."""
    found = _open(options).all()
    if options.model is not None:
        found = [one for one in found if one.model == options.model]
    if options.json:
        documents = [_as_document(one) for one in found]
        print(json.dumps(documents, indent=2))
        return
    if not found:
        of = f" of {options.model}" if options.model else ""
        print(f"no route{of}: requests go to the default version")
        return
    from modelyard.store.routes import tell

    rows = [
        (one.model, tell(one.route), f"back to: {tell(one.before)}", _tell_warm(one.warm))
        for one in found
    ]
    print_table([("MODEL", "ROUTE", "A ROLLBACK LEADS", "KEPT WARM"), *rows])


def set_route(options: argparse.Namespace) -> None:
    """Set the weights of a model's versions."""
    store = _open(options)
    was = store.find(options.model)
    guard = None
    if options.guard is not None:
        form = "errors=0.05,slower=2,over=200"
        guard = _convert(_pairs(options.guard, form), Guard, of=f"--guard {options.guard}: ")
    weights = _weights(options.weight)
    said = {"weights": weights, "sticky": options.sticky, "guard": guard}
    route = _convert({**said, "keep_warm": _keep_warm(options, was)}, Route)
    _change(options, store, [(was, route)])
    if options.sticky == "header" and not load_settings(vars(options)).sticky_header:
        warn("requests stick to a version where the gateway's setting sticky_header names a header")


def shadow(options: argparse.Namespace) -> None:
    """Send copies of requests to a version, or to none."""
    store = _open(options)
    was = store.find(options.model)
    if was.route is None:
        raise UsageError(
            f"{options.model} has no route: give it one first, as by `modelyard route promote`"
        )
    chosen = None
    if options.to != "off":
        version, _, percent = options.to.partition("=")
        if was.route.weights.get(version) == ALL:
            raise UsageError(f"{options.model} {version} answers all requests: it needs no copies")
        chosen = _convert({"version": version, "percent": percent or ALL}, Shadow)
    _change(options, store, [(was, msgspec.structs.replace(was.route, shadow=chosen))])


def promote(options: argparse.Namespace) -> None:
    """Send all requests to one version."""
    store = _open(options)
    was = store.find(options.model)
    route = Route({options.version: ALL}, keep_warm=_keep_warm(options, was))
    _change(options, store, [(was, route)])


def rollback(options: argparse.Namespace) -> None:
    """Go back to the route that was before."""
    store = _open(options)
    was = store.find(options.model)
    if not was.number:
        raise UsageError(f"{options.model} has never had a route")
    if was.before == was.route:
        raise UsageError(f"{options.model} has had no other route to go back to")
    _change(options, store, [(was, was.before)])


def clear(options: argparse.Namespace) -> None:
    """Send requests to the default version again."""
    store = _open(options)
    _change(options, store, [(store.find(options.model), None)])


def apply(options: argparse.Namespace) -> None:
    """Make the routes those of a file."""
    try:
        with options.file.open("rb") as file:
            wanted = msgspec.convert(tomllib.load(file), _File).routes
    except (OSError, ValueError) as error:
        raise UsageError(f"{options.file}: {error}") from error
    store = _open(options)
    there = {one.model: one for one in store.all()}
    changes: list[tuple[StoredRoute, Route | None]] = [
        (there.get(name) or store.find(name), route)
        for name, route in wanted.items()
        if name not in there or there[name].route != route
    ]
    changes += [
        (one, None) for name, one in there.items() if name not in wanted and one.route is not None
    ]
    if not changes:
        print("all routes are as the file says")
        return
    _change(options, store, changes)


def _change(
    options: argparse.Namespace,
    store: RouteStore,
    changes: list[tuple[StoredRoute, Route | None]],
) -> None:
    """Change routes, or say what would be changed."""
    from modelyard.store.routes import tell

    for was, route in changes:
        _see_that_versions_are_there(options, was.model, route)
    would = "would be: " if options.dry_run else ""
    if not options.dry_run:
        try:
            store.change(changes, actor=user(), why=options.why)
        except Conflict as error:
            raise UsageError(str(error)) from error
    for was, route in changes:
        print(f"{was.model}: {would}{tell(route)} (was: {tell(was.route)})")
    for was, _ in changes if not options.dry_run else ():
        if warm := _tell_warm(store.find(was.model).warm):
            print(f"kept warm: {warm}")


def _see_that_versions_are_there(
    options: argparse.Namespace, model: str, route: Route | None
) -> None:
    """See that a route leads to versions that the registry has, or the gateway at ``--url``."""
    if route is None or options.unchecked:
        return
    wanted = set(route.weights) | ({route.shadow.version} if route.shadow else set())
    known = _in_registry(options, model)
    if not wanted - known:
        return
    url = gateway_url(options)
    known |= _at_gateway(url, model)
    if missing := sorted(wanted - known):
        has = f"it has {', '.join(sorted(known))}" if known else "nor any other"
        raise UsageError(
            f"neither the registry nor the gateway at {url} has {model} {missing[0]}; {has}"
            " (--unchecked sets the route all the same)"
        )


def _in_registry(options: argparse.Namespace, model: str) -> set[str]:
    from modelyard.store.versions import VersionStore

    versions = VersionStore(open_engine(options), wall_clock=time.time)
    return {one.version for one in versions.versions(model)}


def _at_gateway(url: str, model: str) -> set[str]:
    from modelyard.cli.call import CallError, gateway_at

    try:
        with gateway_at(url) as client:
            found = client.models()
    except CallError:
        return set()
    return {v.version for one in found if one.name == model for v in one.versions}


def _keep_warm(options: argparse.Namespace, was: StoredRoute) -> str:
    """Return for how long the versions that were are to stay up; empty if nothing was said.

    Raises:
        UsageError: It is no time, or there is no route before that would say which versions.
    """
    text: str = options.keep_warm or ""
    if text and duration_s(text) is None:
        raise UsageError(f"{text!r} is not a valid time; write 30m, 1h or 2d")
    if text and was.route is None:
        raise UsageError(
            f"{was.model} has no route, which would say what to keep warm: give it one first, as "
            "by `modelyard route promote`"
        )
    return text


def _tell_warm(warm: Mapping[str, float]) -> str:
    still = {version: until for version, until in warm.items() if until > time.time()}
    return ", ".join(f"{version} until {tell_moment(until)}" for version, until in still.items())


def _weights(given: list[str]) -> dict[str, float]:
    """Return the weights of versions, in per cent.

    Raises:
        UsageError: One is none.
    """
    weights = {}
    for version, text in _pairs(",".join(given), "1=95 2=5").items():
        try:
            weights[version] = float(text)
        except ValueError:
            weights[version] = -1
        if not 0 <= weights[version] <= ALL:
            raise UsageError(f"{version}={text}: a weight is a number from 0 to 100, in per cent")
    return weights


def _pairs(text: str, form: str) -> dict[str, str]:
    """Return ``a=1,b=2`` as a mapping; ``form`` is how it looks.

    Raises:
        UsageError: It is none.
    """
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    if any(not (name.strip() and sign) for name, sign, _ in parts):
        raise UsageError(f"{text!r}: expected something like {form}")
    found: dict[str, str] = {}
    for name, _, value in parts:
        if name.strip() in found:
            raise UsageError(f"{text!r} names {name.strip()} twice")
        found[name.strip()] = value.strip()
    return found


def _convert(given: object, kind: Any, *, of: str = "") -> Any:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{of}{error}") from error


def _as_document(found: StoredRoute) -> dict[str, Any]:
    routes = {"route": found.route, "before": found.before}
    return {"model": found.model, "number": found.number, "warm": found.warm} | {
        name: None if route is None else msgspec.to_builtins(msgspec.structs.asdict(route))
        for name, route in routes.items()
    }


def _open(options: argparse.Namespace) -> RouteStore:
    engine = open_engine(options, makes=True, is_quiet=True)
    from modelyard.store.routes import RouteStore

    return RouteStore(engine, wall_clock=time.time)
