"""The catalog: which targets exist, what they accept, and how much capacity is up.

Pools announce, the catalog listens; nobody configures it. It also holds what dispatch keeps per
target, so that a request finds all of it with one look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

from modelyard.core.errors import (
    ModelNotFound,
    ModelNotReady,
    RequestError,
    Unavailable,
    VersionNotFound,
)
from modelyard.core.fingerprint import KeySpace
from modelyard.core.messages import SERVING, Announcement
from modelyard.core.names import Target, version_order


class Entry:
    """One target as the asking side knows it."""

    __slots__ = ("announcement", "in_flight", "is_serving", "keys", "refused", "target")

    def __init__(self, announcement: Announcement) -> None:
        self.target = announcement.target
        self.in_flight = 0
        self.refused = 0  # requests, since too many were in flight
        self.keys: KeySpace | None = None
        self.update(announcement)

    def update(self, announcement: Announcement) -> None:
        """Take over what a pool announced."""
        self.announcement = announcement
        self.is_serving = announcement.state in SERVING
        digest = announcement.digest if announcement.cache_ttl_s > 0 else ""
        if digest != (self.keys.digest if self.keys else ""):
            model = str(self.target)
            self.keys = KeySpace(tenant="", model=model, digest=digest) if digest else None

    def left(self, _: object) -> None:
        """Note that a request is no longer in flight."""
        self.in_flight -= 1

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent: one for a sleeping target waits for a worker."""
        return self.is_serving or self.announcement.state == "asleep"

    def why_not(self) -> RequestError:
        """Give the error of a request that comes while the target does not serve."""
        state, reason = self.announcement.state, self.announcement.reason
        return ModelNotReady(f"{self.target} is {state}" + (f": {reason}" if reason else ""))


class Catalog:
    """All targets, by name and version.

    Args:
        is_complete: Whether all targets that there are have had the time to be announced.
        defaults: Versions that answer requests which name none, by the names of their models. They
            go before what the models say of themselves.
    """

    def __init__(
        self,
        *,
        is_complete: Callable[[], bool] = lambda: True,
        defaults: Mapping[str, str] | None = None,
    ) -> None:
        self.revision = 0
        self._is_complete = is_complete
        self._chosen = dict(defaults or {})
        self._entries: dict[Target, Entry] = {}
        self._versions: dict[str, list[Entry]] = {}
        self._defaults: dict[str, Entry] = {}

    def announce(self, announcement: Announcement) -> Entry:
        """Add a target, or replace what is known of it."""
        target = announcement.target
        entry = self._entries.get(target)
        if entry is not None and entry.announcement == announcement:
            return entry
        self.revision += 1
        if entry is not None:
            entry.update(announcement)
        else:
            entry = self._entries[target] = Entry(announcement)
            self._versions.setdefault(target.name, []).append(entry)
        self._choose_default(target.name)
        return entry

    def forget(self, target: Target) -> None:
        """Remove a target that is gone; what is under way for it is still answered."""
        entry = self._entries.pop(target, None)
        if entry is None:
            return
        self.revision += 1
        versions = self._versions[target.name]
        versions.remove(entry)
        if versions:
            self._choose_default(target.name)
        else:
            del self._versions[target.name], self._defaults[target.name]

    def find(self, target: Target) -> Entry | None:
        """Give a target if it is known."""
        return self._entries.get(target)

    def resolve(self, name: str, version: str | None) -> Entry:
        """Give the target that a request for ``name`` means; see ``is_default`` where it names no
        version.

        Raises:
            ModelNotFound: No such model.
            VersionNotFound: The model is there, this version is not.
            Unavailable: It is not known yet which models there are.
        """
        if version is None:
            entry = self._defaults.get(name)
        else:
            entry = self._entries.get(Target(name, version))
        if entry is not None:
            return entry
        if not self._is_complete():
            raise Unavailable("this gateway does not know the models yet: no broker, or just begun")
        if name in self._defaults:
            known = ", ".join(e.target.version for e in self._versions[name])
            raise VersionNotFound(f"{name} has no such version; it has {known}")
        raise ModelNotFound("no model has this name; GET /models lists them")

    def entries(self) -> list[Entry]:
        """Give all targets, by name, the newest version first."""
        return [entry for name in sorted(self._versions) for entry in self._versions[name]]

    def versions(self, name: str) -> list[Entry]:
        """Give the versions of a model, the newest first; none if there is no such model."""
        return list(self._versions.get(name, ()))

    def is_default(self, entry: Entry) -> bool:
        """Tell whether a request that names no version goes to this one: the one that is chosen by
        a setting, or says so of itself, as long as it has workers or sleeps; else the newest that
        serves, else the newest that could be woken.
        """
        return self._defaults[entry.target.name] is entry

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
