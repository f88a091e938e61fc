"""The catalog: which targets exist, what they accept, and how much capacity is up.

It is filled by the announcements of pools, not by configuration. It also holds dispatch's state per
target, so that a request finds everything with one look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import chain
from random import Random

from modelyard.core.errors import (
    NO_MODEL,
    ModelNotFound,
    Unavailable,
    VersionNotFound,
)
from modelyard.core.messages import Announcement
from modelyard.core.names import Target, version_order
from modelyard.core.routes import UNKNOWN, Who
from modelyard.core.trail import find_circle
from modelyard.dispatch.entry import Entry
from modelyard.dispatch.router import Router

log = logging.getLogger(__name__)


class Catalog:
    """All targets, by name and version.

    Args:
        is_complete: Whether every target that is up has had the time to be announced.
        defaults: By model name, the version that answers requests that name none. Overrides
            ``default`` in ``model.toml``.
        chance: For models whose requests are spread over versions.

    Attributes:
        passes_traces: Whether some model may call others, which are told of the caller's trace.
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
        self.passes_traces = False
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
        self.passes_traces = any(calls.values())
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
