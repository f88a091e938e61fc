"""What bulk runs depend on: a book that keeps chunks, and a place for files. Both block."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import IO, Protocol

from modelyard.jobs.bulk.order import Chunk, File, Totals, Wanted


class PlaceAway(Exception):
    """The place of files does not answer now; the text says why."""


class BulkBook(Protocol):
    """Keeps chunks, and knows files. Raises ``BookAway``."""

    def keep(self, uid: str, chunk: Chunk, *, progress: float | None) -> bool:
        """Keep a chunk of a job, if its attempt still holds the job; returns whether it does."""
        ...

    def chunks_of(self, uid: str) -> list[Chunk]:
        """Return the chunks of a job, the first first."""
        ...

    def totals_of(self, uids: Sequence[str]) -> dict[str, Totals]:
        """Return what has come of jobs, by uid."""
        ...

    def known(self, uids: Sequence[str]) -> set[str]:
        """Return those of the uids whose jobs are there."""
        ...

    def order_of(self, uid: str) -> bytes | None:
        """Return the input of a job."""
        ...

    def add_file(self, file: File) -> None:
        """Keep that a file is there."""
        ...

    def find_file(self, file_id: str, tenant: str | None) -> File | None:
        """Return a tenant's file; for None anybody's."""
        ...

    def list_files(self, wanted: Wanted, most: int) -> list[File]:
        """Return files, at most so many."""
        ...

    def remove_file(self, file_id: str) -> bool:
        """Forget a file; returns whether it was there."""
        ...

    def old_files(self, before: float, most: int) -> list[File]:
        """Return files that were sent before that, and which no open job needs."""
        ...


class Place(Protocol):
    """Keeps files by names of their own, as ``runs/ID/output``. Raises ``PlaceAway``."""

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Give a stream; what is written is there, whole, at the end of the block, or not at
        all if that raises.
        """
        ...

    def open(self, name: str, offset: int = 0) -> IO[bytes]:
        """Return a stream of a file; FileNotFoundError if there is none."""
        ...

    def size(self, name: str) -> int | None:
        """Return how large a file is; None if there is none."""
        ...

    def link(self, name: str, *, expires_s: int, media_type: str) -> str | None:
        """Return a URL by which anybody can read a file for so long; None if there are none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or all below a name, if anything is there."""
        ...

    def names(self, below: str) -> list[str]:
        """Return the names of what is directly below a name."""
        ...


class Urls(Protocol):
    """Opens what callers name by URL, as far as a setting allows it."""

    def check(self, url: str, *, is_output: bool) -> None:
        """See that a URL may be used; raises InvalidInput."""
        ...

    def open(self, url: str) -> IO[bytes]:
        """Return a stream of what is there. Raises InvalidInput or PlaceAway."""
        ...

    def size(self, url: str) -> int | None:
        """Return how large it is, if that is known."""
        ...

    def put(self, url: str, stream: IO[bytes]) -> None:
        """Write what a stream has."""
        ...
