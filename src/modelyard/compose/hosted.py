"""One model folder that is served: its pool, and what the catalog is told of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from modelyard.core.manifest import Limits, Manifest
from modelyard.core.messages import SERVING, Announcement
from modelyard.core.names import Target
from modelyard.pool.pool import Pool

Announce = Callable[[Announcement], None]


class MakePool(Protocol):
    """Gives a pool that is not started."""

    def __call__(self, folder: Path, manifest: Manifest, announce: Announce) -> Pool: ...


class Refusal(NamedTuple):
    """Why a folder is not served as it is now: as callers are told, and as the log has it."""

    told: str
    logged: str


class Hosted:
    """A model folder as it was when it was put, and its pool."""

    def __init__(
        self, folder: Path, manifest: Manifest, make_pool: MakePool, announce: Announce
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.target = manifest.target
        self._announce = announce
        self._is_current = False
        self._said: Announcement | None = None
        self._reload_failed = ""
        self.pool = make_pool(folder, manifest, self._on_said)

    @property
    def failure(self) -> Refusal | None:
        """Why it has failed, if it has."""
        if self._said is None or self._said.state != "failed":
            return None
        return Refusal(self._said.reason, self._said.operator_reason)

    @property
    def is_up(self) -> bool:
        """Whether it takes requests."""
        return self._said is not None and self._said.state in (*SERVING, "asleep")

    def show(self) -> None:
        """Let the catalog know of it from now on."""
        self._is_current = True
        if self._said is not None:
            self._announce(self._said)

    def hide(self) -> None:
        """Tell the catalog nothing more."""
        self._is_current = False

    def outlive(self, why: str) -> None:
        """Let the catalog know that the folder has changed since, and why it is not served so."""
        self._reload_failed = why
        if self._said is not None:
            self._on_said(self._said)

    def _on_said(self, announcement: Announcement) -> None:
        self._said = msgspec.structs.replace(announcement, reload_failed=self._reload_failed)
        if self._is_current:
            self._announce(self._said)


def failed(target: Target, reason: str) -> Announcement:
    """Return the announcement of a model that cannot even be started."""
    return Announcement(
        target=target,
        state="failed",
        description="",
        limits=Limits(),
        cache_ttl_s=0,
        max_batch_size=0,
        runners=0,
        runners_ready=0,
        reason=reason,
        workers=0,
    )
