"""Follows routes: chooses a version for requests that name none, and takes out one that fails.

A gateway holds one snapshot, and replaces it whole. Models without a route cost nothing: the
catalog finds their version with one look-up, and asks here for the others alone.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from modelyard.core.names import Target
from modelyard.core.routes import Guard, Route, Snapshot, Who, draw_of, spread

CHECK_EVERY = 10  # answers
ERRORS = frozenset(("model_failed", "model_crashed", "deadline_exceeded"))

if TYPE_CHECKING:
    from modelyard.dispatch.catalog import Entry

log = logging.getLogger(__name__)


class _Seen:
    """The last answers of one version."""

    def __init__(self, over: int) -> None:
        self.seconds: deque[float] = deque(maxlen=over)
        self.failed: deque[bool] = deque(maxlen=over)
        self.count = 0

    def add(self, code: str, seconds: float) -> None:
        self.count += 1
        self.failed.append(code in ERRORS)
        if code == "ok":
            self.seconds.append(seconds)

    @property
    def errors(self) -> float:
        """The share of those that failed."""
        return sum(self.failed) / max(1, len(self.failed))

    @property
    def p99_s(self) -> float:
        """Their 99th percentile; 0 if none was answered."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else 0.0


class Routed:
    """One model that has a route.

    Args:
        name: Of the model.
        route: Its route.
        chance: For requests that stick to nothing.
    """

    def __init__(self, name: str, route: Route, chance: Random) -> None:
        self.route = route
        self.taken_out: dict[str, str] = {}  # why, by version
        self._name = name
        self._random = chance.random
        self._sticks = route.sticky != "no"
        self._ends: list[float] = []
        self._entries: list[Entry] = []
        self._seen: dict[str, _Seen] = {}

    def see_versions(self, entries: Mapping[str, Entry]) -> list[Entry]:
        """Choose among these from now on: those that may be asked, by version. Returns those that
        the route leads to.
        """
        there = [version for version in entries if version not in self.taken_out]
        found = spread(self.route, there)
        self._ends = [end for end, _ in found]
        self._entries = [entries[version] for _, version in [*found, *found[-1:]]]  # ends round
        return self._entries[:-1]

    def tell_shares(self) -> None:
        """Note with each version of the route how much of the requests it gets."""
        before = 0.0
        for end, entry in zip(self._ends, self._entries, strict=False):
            entry.share, before = end - before, end

    def choose(self, who: Who) -> Entry:
        """Return one of the route's versions, of which there has to be one that may be asked."""
        if self._sticks and (sticky := who.of(self.route)):
            return self._entries[bisect(self._ends, draw_of(sticky, self._name))]
        return self._entries[bisect(self._ends, self._random())]

    def answered(self, version: str, code: str, seconds: float) -> str:
        """Note an answer; returns why the version has to go now, or nothing."""
        guard = self.route.guard
        if guard is None or version not in self.route.weights or version in self.taken_out:
            return ""
        seen = self._seen.get(version)
        if seen is None:
            seen = self._seen[version] = _Seen(guard.over)
        seen.add(code, seconds)
        main = self._seen.get(self.route.main)
        if version == self.route.main or seen.count % CHECK_EVERY or main is None:
            return ""
        why = _why_worse(seen, main, guard)
        if why:
            self.taken_out[version] = why
        return why


def _why_worse(seen: _Seen, main: _Seen, guard: Guard) -> str:
    if min(len(seen.failed), len(main.failed)) < guard.over / 5:
        return ""
    if seen.errors > main.errors + guard.errors:
        return (
            f"{seen.errors:.0%} of its requests fail, and {main.errors:.0%} of the main version's"
        )
    if main.p99_s and seen.p99_s > guard.slower * main.p99_s:
        return f"its p99 is {seen.p99_s:.3g} s, and that of the main version {main.p99_s:.3g} s"
    return ""


class Router:
    """Follows the routes of a snapshot.

    Args:
        chance: For requests that stick to nothing.
        on_change: Called with the models whose routes are others than before.
    """

    def __init__(self, chance: Random, *, on_change: Callable[[str], None]) -> None:
        self.snapshot = Snapshot()
        self.chance = chance
        self._on_change = on_change
        self._routed: dict[str, Routed] = {}

    def replace(self, snapshot: Snapshot) -> None:
        """Follow another snapshot from now on. What was taken out comes back if its route has been
        set again.
        """
        before, self.snapshot = self.snapshot, snapshot
        for name in before.routes.keys() | snapshot.routes.keys():
            if snapshot.tells_the_same(before, name):
                continue
            if (route := snapshot.routes.get(name)) is None:
                del self._routed[name]
            else:
                self._routed[name] = Routed(name, route, self.chance)
            self._on_change(name)

    def find(self, name: str) -> Routed | None:
        """Return a model that has a route."""
        return self._routed.get(name)

    def version_of(self, name: str, alias: str) -> str | None:
        """Return the version that an alias means."""
        return self.snapshot.aliases.get(name, {}).get(alias)

    def answered(self, target: Target, code: str, seconds: float) -> None:
        """Note an answer of a version."""
        routed = self._routed.get(target.name)
        why = routed.answered(target.version, code, seconds) if routed is not None else ""
        if why:
            log.warning("version_taken_out", extra={"model": str(target), "why": why})
            self._on_change(target.name)
