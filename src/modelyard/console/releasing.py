"""What the pages of releases show and ask: a model's route, and what it would become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from modelyard.console.interfaces import Release
from modelyard.console.overview import Row
from modelyard.core.errors import Conflict, InvalidInput, VersionNotFound
from modelyard.core.routes import ALL, Route

WEIGHT = "weight."
"""Before the version, in the names of the fields of weights."""


class Side(NamedTuple):
    """One version of a model beside the others; ``row`` is None if no worker serves it."""

    version: str
    weight: float
    is_main: bool
    row: Row | None


class Released(NamedTuple):
    """A model and its route.

    Attributes:
        release: As the store has it.
        sides: Its versions, those with the most weight first.
        is_spread: Whether more than one gets requests.
        taken_out: Why a guard here has taken versions out, by version.
    """

    release: Release
    sides: list[Side]
    is_spread: bool
    taken_out: Mapping[str, str]


class Proposal(NamedTuple):
    """What somebody wants to do: in words, and what the route would be."""

    title: str
    was: Release
    route: Route | None


def released(release: Release, rows: Sequence[Row], taken_out: Mapping[str, str]) -> Released:
    """Return a model with its versions side by side."""
    route = release.route
    weights = dict(route.weights) if route else {}
    found = {row.served.target.version: row for row in rows}
    if route is None:
        default = next((v for v, row in found.items() if row.served.is_default), None)
        weights = {default: ALL} if default is not None else {}
    shadow = {route.shadow.version} if route and route.shadow else set()
    versions = [*found, *sorted((weights.keys() | shadow) - found.keys())]
    main = max(weights, key=lambda version: weights[version], default="")
    sides = [Side(v, weights.get(v, 0.0), v == main, found.get(v)) for v in versions]
    sides.sort(key=lambda side: -side.weight)
    is_spread = sum(weight > 0 for weight in weights.values()) > 1
    return Released(release, sides, is_spread, taken_out)


def propose(release: Release, asked: Mapping[str, str], versions: set[str]) -> Proposal:
    """Return what a form asks for.

    Args:
        release: What is there now.
        asked: ``to`` is ``promote`` (with ``version``), ``rollback``, ``weights`` (with a field for
            each version) or ``clear``.
        versions: That are served now.

    Raises:
        InvalidInput: It asks for nothing that can be.
        VersionNotFound: It names a version that no worker serves.
    """
    model, to = release.model, asked.get("to", "")
    if to == "promote":
        version = asked.get("version", "")
        proposal = Proposal(
            f"Send all requests of {model} to version {version}", release, _all_to(version)
        )
    elif to == "rollback":
        if not release.number:
            raise InvalidInput(f"{model} has never had a route, so there is none to go back to")
        proposal = Proposal(f"Roll {model} back to the route before", release, release.before)
    elif to == "clear":
        proposal = Proposal(f"Remove the route of {model}", release, None)
    elif to == "weights":
        proposal = Proposal(f"Change the weights of {model}", release, _weighed(release, asked))
    else:
        raise InvalidInput("a change is promote, rollback, weights or clear")
    _check_versions(proposal.route, model, versions)
    return proposal


def encode(route: Route | None) -> str:
    """Return a route as a form carries it."""
    return "" if route is None else msgspec.json.encode(route).decode()


def decode(text: str) -> Route | None:
    """Return the route of a form.

    Raises:
        InvalidInput: It is none.
    """
    try:
        return msgspec.json.decode(text, type=Route) if text else None
    except msgspec.MsgspecError as error:
        raise InvalidInput(str(error)) from error


def confirmed(release: Release, asked: Mapping[str, str], versions: set[str]) -> Route | None:
    """Return the route that somebody has confirmed.

    Raises:
        Conflict: What was shown to them is not what is there now.
        InvalidInput: It is no route.
        VersionNotFound: It names a version that no worker serves.
    """
    if asked.get("number") != str(release.number):
        raise Conflict(f"the route of {release.model} has been changed meanwhile: look at it again")
    route = decode(asked.get("route", ""))
    _check_versions(route, release.model, versions)
    return route


def _all_to(version: str) -> Route:
    return Route({version: ALL})


def _weighed(release: Release, asked: Mapping[str, str]) -> Route:
    weights = {}
    for name, text in asked.items():
        if not name.startswith(WEIGHT):
            continue
        try:
            weight = float(text or 0)
        except ValueError:
            raise InvalidInput(f"{text!r} is no weight: a number from 0 to 100") from None
        if weight:
            weights[name.removeprefix(WEIGHT)] = weight
    try:
        before = release.route or Route({"": ALL})
        found = {**msgspec.to_builtins(before), "weights": weights}
        return msgspec.convert(found, Route)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error).partition(" - at ")[0]) from error


def _check_versions(route: Route | None, model: str, versions: set[str]) -> None:
    missing = sorted(set(route.weights) - versions) if route else []
    if missing:
        raise VersionNotFound(
            f"no worker serves {model} {missing[0]} now; `modelyard route` with --unchecked sets "
            "such a route all the same"
        )
