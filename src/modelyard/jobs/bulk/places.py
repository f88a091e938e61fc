"""A folder that keeps the files of bulk runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from modelyard.jobs.bulk.interfaces import PlaceAway


class FolderPlace:
    """Files in a folder. See ``Place``.

    Args:
        folder: Where; it is made when the first file comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See ``Place``."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as stream:
                try:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                    Path(stream.name).replace(path)
                except BaseException:
                    Path(stream.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise PlaceAway(f"{path}: {error.strerror or error}") from error

    def open(self, name: str, offset: int = 0) -> IO[bytes]:
        """See ``Place``."""
        stream = self._path(name).open("rb")
        stream.seek(offset)
        return stream

    def size(self, name: str) -> int | None:
        """See ``Place``."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None

    def link(self, name: str, *, expires_s: int, media_type: str) -> str | None:
        """See ``Place``: nobody else reads this folder."""
        return None

    def remove(self, name: str) -> None:
        """See ``Place``."""
        path = self._path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def names(self, below: str) -> list[str]:
        """See ``Place``."""
        try:
            return sorted(path.name for path in self._path(below).iterdir())
        except FileNotFoundError:
            return []

    def _path(self, name: str) -> Path:
        return self._folder / name
