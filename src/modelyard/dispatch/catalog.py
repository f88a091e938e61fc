"""The catalog: which targets exist, what they accept, and how much capacity is up.

It is filled by the announcements of pools, not by configuration. It also holds dispatch's state per
target, so that a request finds everything with one look-up.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from itertools import chain
from random import Random

from modelyard.core.errors import (
    NO_MODEL,
    ModelNotFound,
    ModelNotReady,
    RequestError,
    Unavailable,
    VersionNotFound,
)
from modelyard.core.fingerprint import KeySpace
from modelyard.core.messages import SERVING, Announcement
from modelyard.core.names import Target, version_order
from modelyard.core.routes import UNKNOWN, Shadow, Who
from modelyard.core.trail import find_circle
from modelyard.dispatch.guards import Guarded
from modelyard.dispatch.router import Routed, Router

LONGEST_WAIT_S = 60
RATE_OVER_S = 1.0
CIRCLE = "models call each other in a circle: %s; take one of them out of [calls]"

log = logging.getLogger(__name__)


class Entry:
    """One target as dispatch knows it."""

    __slots__ = (
        "_measured",
        "_rate",
        "announcement",
        "answered",
        "calls",
        "circle",
        "guarded",
        "in_flight",
        "is_serving",
        "is_special",
        "keys",
        "one_batch",
        "refused",
        "shadow",
        "share",
        "target",
    )

    def __init__(self, announcement: Announcement) -> None:
        self.target = announcement.target
        self.in_flight = self.answered = 0
        self._measured: tuple[float, int] | None = None  # when, and how many were answered then
        self._rate = 0.0  # answers per second
        self.refused = 0  # requests, since too many were in flight
        self.shadow: Shadow | None = None  # which gets copies
        self.guarded: Guarded | None = None  # looks at its answers
        self.share = 0.0  # of the requests that name no version
        self.calls: tuple[str, ...] = ()  # models that it may call
        self.circle = ""  # of calls that it is in: then it is not asked
        self.keys: KeySpace | None = None
        self.update(announcement)

    def update(self, announcement: Announcement) -> None:
        """Replace the announcement."""
        self.announcement = announcement
        self.calls = announcement.calls
        self._see_special()
        self.is_serving = announcement.state in SERVING and not self.circle
        # Instances that run at once when all runners are busy.
        at_once = max(1, announcement.runners_ready) * max(1, announcement.concurrency)
        self.one_batch = announcement.max_batch_size * at_once
        digest = announcement.digest if announcement.cache_ttl_s > 0 else ""
        if digest != (self.keys.digest if self.keys else ""):
            model = str(self.target)
            self.keys = KeySpace(model=model, digest=digest) if digest else None

    def follow(self, routed: Routed | None) -> None:
        """Do what a route says from now on: copy to a shadow, be guarded."""
        version = self.target.version
        self.shadow = None if routed is None else routed.route.shadow
        self.guarded = None if routed is None else routed.guarded.get(version)
        self._see_special()

    def _see_special(self) -> None:
        self.is_special = bool(self.calls) or self.shadow is not None or self.guarded is not None

    def left(self, _: object) -> None:
        """Note that a request is no longer in flight."""
        self.in_flight -= 1
        self.answered += 1

    def wait_s(self, now: float) -> int:
        """Return in how many seconds what is in flight will be answered, at the rate of late."""
        since, before = self._measured or (now, self.answered)
        if self._measured is None or now - since > RATE_OVER_S:
            if now > since:
                self._rate = (self.answered - before) / (now - since)
            self._measured = now, self.answered
        wait_s = self.in_flight / self._rate if self._rate else 0.0
        return max(1, min(LONGEST_WAIT_S, math.ceil(wait_s)))

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent. One for a sleeping target waits for a worker."""
        return self.is_serving or (self.announcement.state == "asleep" and not self.circle)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be sent now."""
        return self.is_open and self.in_flight < self.announcement.limits.max_in_flight

    def why_not(self) -> RequestError:
        """Return the error for a request that comes while the target does not serve."""
        state, reason = self.announcement.state, self.announcement.reason
        if self.circle:
            state, reason = "failed", CIRCLE % self.circle
        return ModelNotReady(f"{self.target} is {state}" + (f": {reason}" if reason else ""))


class Catalog:
    """All targets, by name and version.

    Args:
        is_complete: Whether every target that is up has had the time to be announced.
        defaults: By model name, the version that answers requests that name none. Overrides
            ``default`` in ``model.toml``.
        chance: For models whose requests are spread over versions.

    Attributes:
        has_calls: Whether some model may call others.
        router: Follows routes and aliases.
    """

    def __init__(
        self,
        *,
        is_complete: Callable[[], bool] = lambda: True,
        defaults: Mapping[str, str] | None = None,
        chance: Random | None = None,
    ) -> None:
        self.router = Router(chance or Random(), on_change=self._reroute)
        self.revision = 0
        self.has_calls = False
        self._is_complete = is_complete
        self._chosen = dict(defaults or {})
        self._entries: dict[Target, Entry] = {}
        self._versions: dict[str, list[Entry]] = {}
        self._defaults: dict[str, Entry] = {}
        self._main: dict[str, Entry] = {}  # by model: which gets most requests
        self._direct: dict[str, Entry] = {}  # by model, where there is nothing to choose
        self._spread: dict[str, Callable[[Who], Entry]] = {}  # where there is

    def announce(self, announcement: Announcement) -> Entry:
        """Add a target, or update it."""
        target = announcement.target
        entry = self._entries.get(target)
        if entry is not None and entry.announcement == announcement:
            return entry
        self.revision += 1
        calls = entry.calls if entry is not None else ()
        if entry is not None:
            entry.update(announcement)
        else:
            entry = self._entries[target] = Entry(announcement)
            self._versions.setdefault(target.name, []).append(entry)
        if entry.calls != calls:
            self._see_circles()
        self._choose_default(target.name)
        return entry

    def forget(self, target: Target) -> None:
        """Remove a target that is gone; its requests in flight are still answered."""
        entry = self._entries.pop(target, None)
        if entry is None:
            return
        self.revision += 1
        versions = self._versions[target.name]
        versions.remove(entry)
        if entry.calls:
            self._see_circles()
        if versions:
            self._choose_default(target.name)
        else:
            del self._versions[target.name], self._defaults[target.name], self._main[target.name]
            self._direct.pop(target.name, None)
            self._spread.pop(target.name, None)

    def find(self, target: Target) -> Entry | None:
        """Return a target's entry, or None if it is not known."""
        return self._entries.get(target)

    def resolve(self, name: str, version: str | None, who: Who = UNKNOWN) -> Entry:
        """Return the target of a request for ``name``. Without a version it is the route's choice,
        or else the default: the version in the setting ``default_versions``, else the one marked in
        its ``model.toml``, as long as it has workers or sleeps; else the newest version that
        serves, else the newest that sleeps.

        ``version``: one, or an alias. ``who``: what a route may stick to.

        Raises:
            ModelNotFound: No such model.
            VersionNotFound: The model exists, but not this version.
            Unavailable: The model is unknown, and the catalog is not complete yet.
        """
        if version is None:
            entry = self._direct.get(name)
            if entry is None and (draw := self._spread.get(name)) is not None:
                return draw(who)
        else:
            entry = self._entries.get(Target(name, version)) or self._by_alias(name, version)
        if entry is not None:
            return entry
        if not self._is_complete():
            raise Unavailable("the gateway has no catalog yet: no broker, or it has just started")
        if name in self._defaults:
            raise VersionNotFound(f"{name} has no such version; it has {self._known(name)}")
        raise ModelNotFound(NO_MODEL)

    def stable(self, name: str, version: str | None) -> Entry:
        """Return the target that describes a model: the version or alias, or else the one that gets
        most of the requests without one. Raises as ``resolve`` does.
        """
        main = self._main.get(name) if version is None else None
        return self.resolve(name, version) if main is None else main

    def _by_alias(self, name: str, alias: str) -> Entry | None:
        meant = self.router.version_of(name, alias)
        return None if meant is None else self._entries.get(Target(name, meant))

    def _known(self, name: str) -> str:
        """Return what may be asked for: versions, and aliases of those."""
        versions = [entry.target.version for entry in self._versions[name]]
        aliases = self.router.snapshot.aliases.get(name, {})
        known = [alias for alias, version in aliases.items() if version in versions]
        return ", ".join(versions + sorted(known))

    def entries(self) -> list[Entry]:
        """Return all targets, by name, the newest version first."""
        return [entry for name in sorted(self._versions) for entry in self._versions[name]]

    def versions(self, name: str) -> list[Entry]:
        """Return the versions of a model, the newest first; none if there is no such model."""
        return list(self._versions.get(name, ()))

    def is_default(self, entry: Entry) -> bool:
        """Return whether requests that name no version go to this one, or most of them."""
        return self._main[entry.target.name] is entry

    def _see_circles(self) -> None:
        """Let no model be asked that waits for itself, over whichever others."""
        calls = {
            name: {called for entry in entries for called in entry.calls}
            for name, entries in self._versions.items()
        }
        self.has_calls = any(calls.values())
        for name, entries in self._versions.items():
            circle = " → ".join(find_circle(name, calls)) if calls[name] else ""
            for entry in entries:
                if entry.circle != circle and entry.calls:
                    entry.circle = circle
                    entry.update(entry.announcement)
                    if circle:
                        log.error("calls_in_a_circle", extra={"model": str(entry.target)})
            self._choose_default(name)

    def _choose_default(self, name: str) -> None:
        versions = self._versions[name]
        versions.sort(key=lambda entry: version_order(entry.target.version), reverse=True)
        there = [entry for entry in versions if entry.announcement.state != "stopped"]
        wanted = self._chosen.get(name)
        chosen = (entry for entry in there if entry.target.version == wanted)
        says_so = (entry for entry in there if entry.announcement.is_default)
        serving = (entry for entry in versions if entry.is_serving)
        asleep = (entry for entry in versions if entry.is_open)
        self._defaults[name] = next(chain(chosen, says_so, serving, asleep), versions[0])
        self._reroute(name)

    def _reroute(self, name: str) -> None:
        """Let requests of a model go by its route, or to its default version if it has none."""
        if (default := self._defaults.get(name)) is None:
            return
        routed = self.router.find(name)
        for entry in self._versions[name]:
            entry.share = 0.0
            entry.follow(routed)
        open_ = {e.target.version: e for e in self._versions[name] if e.is_open}
        chosen = [] if routed is None else routed.see_versions(open_)
        self._main[name] = main = chosen[0] if chosen else default
        main.share = 1.0
        if routed is not None and len(chosen) > 1:
            routed.tell_shares()
            self._direct.pop(name, None)
            self._spread[name] = routed.choose
        else:  # there is nothing to choose
            self._direct[name] = main
            self._spread.pop(name, None)
