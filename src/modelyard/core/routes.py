"""Routes: how the requests of a model are spread over its versions. Pure rules; see
``dispatch/router.py`` for who follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from modelyard.core.durations import PATTERN, duration_s
from modelyard.core.names import Target

ALL = 100.0
_ROUNDING = 1e-6
_DRAW_BYTES = 8

Sticky = Literal["no", "owner", "header"]
Share = Annotated[float, Meta(ge=0, le=ALL)]


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a version is taken out of its route, by each gateway for itself.

    A version is compared with the one that has the most weight, over the last ``over`` requests of
    each, and not before both had a fifth of them.

    Attributes:
        errors: By how much its share of failed requests may be larger.
        slower: How many times as slow its p99 may be.
        over: How many requests are looked at.
    """

    errors: Annotated[float, Meta(gt=0, le=1)] = 0.1
    slower: Annotated[float, Meta(gt=1)] = 3.0
    over: Annotated[int, Meta(ge=10, le=10_000)] = 100


class Shadow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that gets copies of requests, and answers nobody.

    Attributes:
        version: Which.
        percent: Of how many requests.
    """

    version: str
    percent: Annotated[float, Meta(gt=0, le=ALL)] = ALL


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where requests go that name no version.

    Attributes:
        weights: Per cent, by version.
        sticky: Whether the same caller is always sent to the same version: by the owner of its key,
            or by the header that the setting ``sticky_header`` names.
        guard: When a version is taken out; None for never.
        shadow: A version that is tried on real requests; None for none.
        keep_warm: How long the versions of the route before stay up, such as ``1h``: see
            ``warm_after``.
    """

    weights: dict[str, Share]
    sticky: Sticky = "no"
    guard: Guard | None = None
    shadow: Shadow | None = None
    keep_warm: Annotated[str, Meta(pattern=f"^$|{PATTERN}")] = ""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("a route names at least one version")
        total = sum(self.weights.values())
        if abs(total - ALL) > _ROUNDING:
            raise ValueError(f"the weights of a route add up to 100, not to {total:g}")

    @property
    def main(self) -> str:
        """The version that has the most weight."""
        return max(self.weights, key=lambda version: self.weights[version])

    @property
    def asked(self) -> frozenset[str]:
        """The versions that get requests."""
        return frozenset(version for version, weight in self.weights.items() if weight)


def warm_after(
    before: Route | None, route: Route | None, warm: Mapping[str, float], *, now: float
) -> dict[str, float]:
    """Return which versions stay up after a change of a route, though they get nothing, and until
    when. ``warm``: those that did before it; ``now``: Unix time.

    A route that says nothing of it changes nothing for those that are warm; ``0s`` ends it.
    """
    asked = route.asked if route is not None else frozenset()
    kept = {v: until for v, until in warm.items() if until > now and v not in asked}
    if route is None or not route.keep_warm:
        return kept
    if not (seconds := duration_s(route.keep_warm)):
        return {}
    was = before.asked if before is not None else frozenset()
    return kept | dict.fromkeys(sorted(was - asked), now + seconds)


class Snapshot(msgspec.Struct, frozen=True):
    """All routes and aliases at one time. It is replaced as a whole.

    Attributes:
        number: Grows with each change; -1 as long as none has been read.
        routes: By model.
        aliases: By model, then by alias: the version.
        settings: By model: how often its route has been set. One that is set again as it was is
            another one: versions that a guard has taken out come back.
        warm: By model, then by version: until when it stays up though it gets nothing, as Unix
            time.
    """

    number: int = -1
    routes: Mapping[str, Route] = {}
    aliases: Mapping[str, Mapping[str, str]] = {}
    settings: Mapping[str, int] = {}
    warm: Mapping[str, Mapping[str, float]] = {}

    def is_warm(self, target: Target, *, now: float) -> bool:
        """Return whether a version is to stay up though it may get nothing."""
        return self.warm.get(target.name, {}).get(target.version, 0.0) > now

    def of(self, may_see: Callable[[str], bool]) -> Snapshot:
        """Return what it says of some models, by their names."""
        kept = {
            what: {name: it for name, it in getattr(self, what).items() if may_see(name)}
            for what in ("routes", "aliases", "settings", "warm")
        }
        return msgspec.structs.replace(self, **kept)

    def named(self, *, now: float) -> set[Target]:
        """Return the versions that a route asks, shadows or keeps warm, or that an alias means."""
        found = {Target(name, v) for name, of in self.aliases.items() for v in of.values()}
        for name, route in self.routes.items():
            found |= {Target(name, version) for version in route.asked}
            if route.shadow is not None:
                found.add(Target(name, route.shadow.version))
        of_warm = (Target(name, v) for name, versions in self.warm.items() for v in versions)
        return found | {target for target in of_warm if self.is_warm(target, now=now)}

    def tells_the_same(self, other: Snapshot, model: str) -> bool:
        """Return whether the model's route is that of another snapshot."""
        is_same = self.routes.get(model) == other.routes.get(model)
        return is_same and self.settings.get(model) == other.settings.get(model)


class Who(NamedTuple):
    """What a request says of who asks.

    Attributes:
        owner: Of its key.
        header: What it sent in the header that routes may stick to.
        chain: If a model asks, the models that called each other; see ``core/trail.py``.
        trace: Its ``traceparent``, if somebody needs it.
        since: See ``core.trail.Trail``.
    """

    owner: str = ""
    header: str = ""
    chain: str = ""
    trace: str = ""
    since: float = 0.0

    def of(self, route: Route) -> str:
        """Return what a route sticks to; empty for nothing."""
        return {"no": "", "owner": self.owner, "header": self.header}[route.sticky]


UNKNOWN = Who()


def draw_of(sticky: str, model: str) -> float:
    """Return a number in [0, 1) that is always the same for a caller and a model."""
    digest = blake2b(f"{model}\n{sticky}".encode(), digest_size=_DRAW_BYTES).digest()
    return int.from_bytes(digest, "big") / (1 << (8 * _DRAW_BYTES))


def spread(route: Route, versions: Iterable[str]) -> Sequence[tuple[float, str]]:
    """Return versions with the upper end of the draws that each gets, of those that may be asked.

    Those with more weight come first. So a draw that goes to a version goes there still when that
    gets more weight from the first.
    """
    there = set(versions)
    weights = [(weight, v) for v, weight in route.weights.items() if weight and v in there]
    weights.sort(key=lambda pair: (-pair[0], pair[1]))
    total, end = sum(weight for weight, _ in weights), 0.0
    ends = []
    for weight, version in weights:
        end += weight / total
        ends.append((end, version))
    return ends
