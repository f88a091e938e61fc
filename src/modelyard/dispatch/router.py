"""Follows routes: chooses a version for requests that name none, and takes out one that fails.

A gateway holds one snapshot, and replaces it whole. Models without a route cost nothing: the
catalog finds their version with one look-up, and asks here for the others alone.
"""

from __future__ import annotations

import logging
from bisect import bisect
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from modelyard.core.routes import Guard, Route, Snapshot, Who, draw_of, spread
from modelyard.dispatch.guards import Guarded

if TYPE_CHECKING:
    from modelyard.dispatch.entry import Entry

log = logging.getLogger(__name__)


class Routed:
    """One model that has a route.

    Args:
        name: Of the model.
        route: Its route.
        chance: For requests that stick to nothing.
        on_change: Called with the name when a version is taken out.

    Attributes:
        guarded: By version, what looks at its answers.
        taken_out: By version, why it gets no requests.
    """

    def __init__(
        self, name: str, route: Route, chance: Random, on_change: Callable[[str], None]
    ) -> None:
        self.route = route
        self.taken_out: dict[str, str] = {}
        self._name = name
        self._random = chance.random
        self._on_change = on_change
        self._sticks = route.sticky != "no"
        self._ends: list[float] = []
        self._entries: list[Entry] = []
        self.guarded = {} if route.guard is None else self._guard(route.guard)

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

    def _guard(self, guard: Guard) -> dict[str, Guarded]:
        main = self.route.main
        guarded = {main: Guarded(guard, None, partial(self._take_out, main))}
        for version in self.route.weights:
            if version != main:
                guarded[version] = Guarded(guard, guarded[main], partial(self._take_out, version))
        return guarded

    def _take_out(self, version: str, why: str) -> None:
        if version not in self.taken_out:
            log.warning("version_taken_out", extra={"model": f"{self._name} {version}", "why": why})
            self.taken_out[version] = why
            self._on_change(self._name)


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
                self._routed[name] = Routed(name, route, self.chance, self._on_change)
            self._on_change(name)

    def find(self, name: str) -> Routed | None:
        """Return a model that has a route."""
        return self._routed.get(name)

    def version_of(self, name: str, alias: str) -> str | None:
        """Return the version that an alias means."""
        return self.snapshot.aliases.get(name, {}).get(alias)
