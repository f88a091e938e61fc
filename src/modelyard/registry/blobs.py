"""Artefacts by their content: ``sha256/ab/abcdef…`` under an fsspec URL (folder, s3, gcs, az).

An artefact comes into a file of its own and is moved to its place when it is whole and its digest
is right, so nothing that lies there is half of anything. Libraries: ``modelyard[registry]``, and
``modelyard[s3]``, ``[gcs]`` or ``[azure]`` for where they lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec

from modelyard.core.errors import InvalidInput, TooLarge, Unavailable
from modelyard.registry.errors import RegistryError
from modelyard.registry.interface import pieces_of

DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
_DIGEST = re.compile(DIGEST_PATTERN)
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}


class Kept(NamedTuple):
    """An artefact that is kept; ``changed``: Unix time, in seconds."""

    digest: str
    size: int
    changed: float


class Blobs:
    """The artefacts at one place.

    Args:
        url: A folder, or a URL that fsspec knows.

    Raises:
        RegistryError: There is nothing that reaches the URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            extra = _EXTRAS.get(url.partition(":")[0])
            hint = f": pip install 'modelyard[{extra}]'" if extra else ""
            raise RegistryError(f"artefacts_url {url}: {error}{hint}") from error
        self._fs: Any = fs
        self._root = str(root).rstrip("/")
        is_local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
        self._folder = Path(self._root) if is_local else None

    def size_of(self, digest: str) -> int | None:
        """Return the size of an artefact; None if it is not here."""
        with self._telling(f"look for {digest}"):
            try:
                return int(self._fs.info(self._path(digest))["size"])
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def receiving(self, digest: str, *, most_bytes: int | None = None) -> Iterator[Incoming]:
        """Give what takes an artefact; what is not finished by the end of the block is dropped."""
        with self._telling(f"receive {digest}"):
            parent = None if self._folder is None else self._folder / "incoming"
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            stream: IO[bytes]
            with tempfile.NamedTemporaryFile(
                dir=parent, prefix="artefact-", delete=False
            ) as stream:
                incoming = Incoming(stream, digest, most_bytes=most_bytes, keep=self._keep)
                try:
                    yield incoming
                finally:
                    Path(stream.name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def reading(self, digest: str) -> Iterator[Iterator[bytes]]:
        """Give the content of an artefact, piece by piece.

        Raises:
            Unavailable: It is not here, or cannot be reached.
        """
        with self._telling(f"read {digest}"):
            opened: IO[bytes] = self._fs.open(self._path(digest), "rb")
        with opened as stream:
            yield self._pieces(stream, digest)

    def _pieces(self, stream: IO[bytes], digest: str) -> Iterator[bytes]:
        pieces = pieces_of(stream)
        while True:
            with self._telling(f"read {digest}"):
                piece = next(pieces, b"")
            if not piece:
                return
            yield piece

    def kept(self) -> Iterator[Kept]:
        """Give all artefacts."""
        with self._telling("list them"):
            try:
                found = self._fs.find(f"{self._root}/sha256", detail=True)
            except FileNotFoundError:
                return
        for path, info in found.items():
            digest = f"sha256:{str(path).rpartition('/')[2]}"
            if _DIGEST.fullmatch(digest):
                yield Kept(digest, int(info["size"]), _changed(info))

    def remove(self, digest: str) -> None:
        """Remove an artefact."""
        with self._telling(f"remove {digest}"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(digest))

    def remove_broken_off(self, *, before: float) -> int:
        """Remove what was received in part, and not changed since; returns how many."""
        folder = self._folder and self._folder / "incoming"
        count = 0
        if folder is None or not folder.is_dir():
            return 0
        with self._telling("clean up"):
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        count += 1
        return count

    def _keep(self, file: Path, digest: str) -> None:
        """Put a whole artefact in its place, at once."""
        target = self._path(digest)
        if self._folder is None:
            self._fs.put_file(str(file), target)  # an object is there when all of it is
            return
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(0o644)
        file.replace(place)
        for folder in (place.parent, place.parent.parent):
            _sync(folder)

    def _path(self, digest: str) -> str:
        assert _DIGEST.fullmatch(digest), digest
        name = digest.partition(":")[2]
        return f"{self._root}/sha256/{name[:2]}/{name}"

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Say in a sentence what the place says: each kind has errors of its own."""
        try:
            yield
        except (InvalidInput, TooLarge, Unavailable):
            raise
        except Exception as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(f"the place of the artefacts cannot {what}: {text}") from error


class Incoming:
    """An artefact that is being received; its digest is made on the way.

    Args:
        stream: A file of its own.
        digest: That it must have.
        most_bytes: That it may have; None for any number.
        keep: Puts the file in its place.
    """

    def __init__(
        self,
        stream: IO[bytes],
        digest: str,
        *,
        most_bytes: int | None,
        keep: Callable[[Path, str], None],
    ) -> None:
        self._stream = stream
        self._digest = digest
        self._most_bytes = most_bytes
        self._keep = keep
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: They are too many.
        """
        self._size += len(piece)
        if self._most_bytes is not None and self._size > self._most_bytes:
            raise TooLarge(f"{self._digest} is over the limit of {self._most_bytes} bytes")
        self._hash.update(piece)
        self._stream.write(piece)

    def finish(self) -> None:
        """Put it in its place.

        Raises:
            InvalidInput: It is another one: it was damaged on the way.
        """
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise InvalidInput(
                f"the artefact is damaged: it should be {self._digest}, it is {found}"
            )
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._keep(Path(self._stream.name), self._digest)


def _changed(info: dict[str, Any]) -> float:
    """Return when a file was changed; now, if the place does not say."""
    for name in ("mtime", "LastModified", "last_modified", "updated"):
        value = info.get(name)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
    return datetime.now(UTC).timestamp()


def _sync(folder: Path) -> None:
    """See that what was moved into a folder is there after a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
