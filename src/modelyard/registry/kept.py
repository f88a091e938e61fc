"""The registry on the store itself: rows there, artefacts beside it.

Artefacts come first and the row last, in one transaction. So what is listed is whole, and a push
that breaks off leaves nothing but artefacts, of which the next one sends the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import IO, TYPE_CHECKING, Protocol

from modelyard.core.clock import Clock
from modelyard.core.errors import InvalidInput, Unavailable, VersionNotFound
from modelyard.core.names import NAME_RULE, Target, is_name
from modelyard.core.versions import (
    Change,
    Contents,
    VersionDetails,
    VersionSummary,
    check_contents,
)
from modelyard.registry.interface import Collected, pieces_of
from modelyard.store.errors import StoreError

if TYPE_CHECKING:
    from modelyard.registry.blobs import Blobs, Kept

GRACE_S = 24 * 3600.0
"""An artefact that no version needs may be that of a push under way: it stays so long."""
_AT_ONCE = 50  # artefacts that are removed while pushes wait


class Rows(Protocol):
    """What the store keeps; see ``store/versions.py``."""

    def versions(self, name: str | None = None) -> list[VersionSummary]: ...

    def find(self, target: Target) -> VersionDetails: ...

    def resolve(self, name: str, reference: str) -> str: ...

    def add(
        self, target: Target, contents: Contents, *, actor: str, check: Callable[[], None]
    ) -> VersionDetails: ...

    def set_alias(self, target: Target, alias: str, *, actor: str, why: str) -> str: ...

    def remove_alias(self, name: str, alias: str, *, actor: str, why: str) -> None: ...

    def remove(self, targets: Iterable[Target], *, actor: str, why: str) -> list[Target]: ...

    def remove_unneeded(self, digests: list[str], remove: Callable[[str], None]) -> list[str]: ...

    def audit(self, name: str) -> list[Change]: ...


class KeptRegistry:
    """See ``interface.Registry``.

    Args:
        rows: In the store.
        blobs: The artefacts.
        actor: Who changes something, for the audit.
        wall_clock: Unix time, in seconds.
        in_use: Returns what workers run now; None where nobody knows.
    """

    def __init__(
        self,
        rows: Rows,
        blobs: Blobs,
        *,
        actor: str,
        wall_clock: Clock,
        in_use: Callable[[], Collection[Target]] | None = None,
    ) -> None:
        self._rows = rows
        self.blobs = blobs
        self._actor = actor
        self._wall_clock = wall_clock
        self._in_use = in_use

    def acting(self, actor: str) -> KeptRegistry:
        """Return the same for another actor."""
        return KeptRegistry(
            self._rows,
            self.blobs,
            actor=actor,
            wall_clock=self._wall_clock,
            in_use=self._in_use,
        )

    def knowing(self, in_use: Callable[[], Collection[Target]]) -> KeptRegistry:
        """Return the same where it is known what workers run."""
        return KeptRegistry(
            self._rows,
            self.blobs,
            actor=self._actor,
            wall_clock=self._wall_clock,
            in_use=in_use,
        )

    def versions(self, name: str | None = None) -> list[VersionSummary]:
        """See ``Registry``."""
        with _telling():
            return self._rows.versions(name)

    def find(self, name: str, reference: str) -> VersionDetails:
        """See ``Registry``."""
        with _telling():
            return self._rows.find(Target(name, self._rows.resolve(name, reference)))

    def missing(self, digests: Iterable[str]) -> list[str]:
        """See ``Registry``."""
        return [digest for digest in digests if self.blobs.size_of(digest) is None]

    def send(self, digest: str, size: int, stream: IO[bytes]) -> None:
        """See ``Registry``."""
        with self.blobs.receiving(digest) as incoming:
            for piece in pieces_of(stream):
                incoming.write(piece)
            incoming.finish()

    def push(self, target: Target, contents: Contents) -> VersionDetails:
        """See ``Registry``.

        Raises:
            InvalidInput: The files are not what a version may have, or have not been sent.
            Conflict: The version is there with another content.
        """
        for name in (target.name, target.version):
            if not is_name(name):
                raise InvalidInput(
                    f"{name!r} is not a valid name of a model or version: {NAME_RULE}"
                )
        check_contents(contents)
        with _telling():
            return self._rows.add(
                target, contents, actor=self._actor, check=lambda: self._check_artefacts(contents)
            )

    @contextmanager
    def fetch(self, version: VersionDetails, path: str) -> Iterator[Iterator[bytes]]:
        """See ``Registry``."""
        file = next((file for file in version.contents.files if file.path == path), None)
        if file is None:
            raise VersionNotFound(f"{version.target} has no file {path!r}")
        with self.blobs.reading(file.digest) as pieces:
            yield pieces

    def set_alias(self, target: Target, alias: str, *, why: str) -> str:
        """See ``Registry``."""
        if not is_name(alias):
            raise InvalidInput(f"{alias!r} is not a valid alias: {NAME_RULE}")
        with _telling():
            return self._rows.set_alias(target, alias, actor=self._actor, why=why)

    def remove_alias(self, name: str, alias: str, *, why: str) -> None:
        """See ``Registry``."""
        with _telling():
            self._rows.remove_alias(name, alias, actor=self._actor, why=why)

    def audit(self, name: str) -> list[Change]:
        """See ``Registry``."""
        with _telling():
            return self._rows.audit(name)

    def collect(self, *, keep: int | None, is_dry: bool) -> Collected:
        """See ``Registry``.

        Raises:
            InvalidInput: Versions are to be removed, and nobody here knows which ones run.
        """
        chosen = [] if keep is None else self._dispensable(keep)
        before = self._wall_clock() - GRACE_S
        with _telling():
            if not is_dry:
                why = f"collected: not among the newest {keep}"
                chosen = self._rows.remove(chosen, actor=self._actor, why=why)
                self.blobs.remove_broken_off(before=before)
            old = [kept for kept in self.blobs.kept() if kept.changed < before]
            removed: list[Kept] = []
            for start in range(0, len(old), _AT_ONCE):
                some = {kept.digest: kept for kept in old[start : start + _AT_ONCE]}
                remove = (lambda _: None) if is_dry else self.blobs.remove
                removed += [some[d] for d in self._rows.remove_unneeded(list(some), remove)]
        return Collected(
            versions=tuple(map(str, chosen)),
            artefacts=tuple(kept.digest for kept in removed),
            freed_bytes=sum(kept.size for kept in removed),
            is_done=not is_dry,
        )

    def _dispensable(self, keep: int) -> list[Target]:
        """Return the versions that nothing names, but for the newest of each model."""
        if self._in_use is None:
            raise InvalidInput(
                "which versions workers run, a gateway alone knows: name it with --url to remove "
                "versions; artefacts that no version needs are removed without it"
            )
        in_use = set(self._in_use())
        found: list[Target] = []
        for _, group in groupby(self.versions(), key=lambda version: version.name):
            of_model = list(group)
            older = of_model[: max(0, len(of_model) - keep)]
            found += [one.target for one in older if not one.aliases and one.target not in in_use]
        return found

    def _check_artefacts(self, contents: Contents) -> None:
        for file in contents.files:
            size = self.blobs.size_of(file.digest)
            if size is None:
                raise InvalidInput(
                    f"the artefact of {file.path!r} has not been sent: {file.digest}"
                )
            if size != file.size:
                raise InvalidInput(f"{file.path!r} has {size} bytes, not {file.size}")


@contextmanager
def _telling() -> Iterator[None]:
    """Say of the store that it is away."""
    try:
        yield
    except StoreError as error:
        raise Unavailable(f"the store of the registry does not answer: {error}") from error
