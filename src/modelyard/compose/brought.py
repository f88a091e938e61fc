"""References that models bring: from a model's folder, or from the registry, to the payload log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.core.artefacts import REFERENCE_FILE
from modelyard.core.errors import RequestError
from modelyard.core.messages import SERVING, Announcement
from modelyard.core.names import Target
from modelyard.drift.reference import UnusableProfileError, profile_in
from modelyard.registry.errors import RegistryError

if TYPE_CHECKING:
    from modelyard.payloads.log import PayloadLog
    from modelyard.registry.interface import Registry

MOST_BYTES = 8 << 20
AGAIN_S = 30.0

log = logging.getLogger(__name__)

FolderOf = Callable[[Target], Path | None]


class Brought:
    """Looks for the references of targets, and gives them to the payload log.

    Args:
        payload_log: Compares with them.
        registry: Has them, where there is no folder; None for none.
        named: Models that the log's file gives a reference.
    """

    def __init__(
        self, payload_log: PayloadLog, registry: Registry | None, *, named: Collection[str]
    ) -> None:
        self._log = payload_log
        self._registry = registry
        self._named = named
        self._digests: dict[Target, str] = {}
        self._wanted: asyncio.Queue[tuple[Target, str]] = asyncio.Queue()
        self.folder_of: FolderOf | None = None  # where models are served from folders

    def see(self, announcement: Announcement) -> None:
        """Look for the reference of a target, if it serves something new."""
        target, digest = announcement.target, announcement.digest
        is_new = digest and self._digests.get(target) != digest
        if is_new and announcement.state in SERVING and target.name not in self._named:
            self._digests[target] = digest
            self._wanted.put_nowait((target, digest))

    async def run(self) -> None:
        """Look for what is wanted, until cancelled."""
        while True:
            target, digest = await self._wanted.get()
            if self._digests[target] != digest:
                continue
            try:
                content = await asyncio.to_thread(self._find, target, digest)
                if content:
                    self._check(target, content)
            except (OSError, RegistryError, RequestError, UnusableProfileError) as error:
                log.warning("reference_not_used", extra={"model": str(target), "why": str(error)})
                if not isinstance(error, UnusableProfileError):
                    again = (target, digest)
                    asyncio.get_running_loop().call_later(AGAIN_S, self._wanted.put_nowait, again)
                continue
            self._log.bring(target, content)

    def _find(self, target: Target, digest: str) -> bytes:
        """Return what a target has brought; nothing if it has brought nothing. It may block."""
        folder = None if self.folder_of is None else self.folder_of(target)
        if folder is not None:
            path = folder / REFERENCE_FILE
            return path.read_bytes() if path.is_file() else b""
        registry = self._registry
        if registry is None or not registry.versions(target.name):
            return b""
        version = registry.find(target.name, target.version)
        file = next((f for f in version.contents.files if f.path == REFERENCE_FILE), None)
        if version.digest != digest or file is None or file.size > MOST_BYTES:
            return b""
        with registry.fetch(version, REFERENCE_FILE) as pieces:
            return b"".join(pieces)

    def _check(self, target: Target, content: bytes) -> None:
        if len(content) > MOST_BYTES:
            raise UnusableProfileError(f"{REFERENCE_FILE} is larger than {MOST_BYTES >> 20} MiB")
        try:
            profile = profile_in(content)
        except UnusableProfileError as error:
            raise UnusableProfileError(f"{REFERENCE_FILE} is no profile: {error}") from error
        if find_spec("psi_inference") is None:
            raise UnusableProfileError("it needs: pip install 'modelyard[drift]'")
        fields = {"model": str(target), "rows": profile.rows, "features": len(profile.features)}
        log.info("reference_used", extra=fields)
