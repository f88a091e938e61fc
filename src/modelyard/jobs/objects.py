"""The objects of jobs, as their gateway sees them: what was sent is put there before the 202, a
result is fetched from there, and what no job needs any more is removed.

Each job has a folder of its uid: ``UID/input``, and a result for each attempt that had a large one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import TypeVar

from modelyard.core.clock import WallClock
from modelyard.core.errors import ObjectLost, Unavailable
from modelyard.core.objects import ObjectRef
from modelyard.jobs.bulk.interfaces import Place, PlaceAway
from modelyard.jobs.interfaces import BookAway, RetentionBook

PIECE_BYTES = 1 << 20
JANITOR_S = 600.0
ABANDONED_S = 3600.0
"""So old is what no job needs before it is removed: its job may just be being kept."""

AT_ONCE = 500
RETRY_AFTER_S = 5
_THREADS = 8
T = TypeVar("T")

log = logging.getLogger(__name__)


class Objects:
    """Puts, fetches and removes objects.

    Args:
        place: Has them.
        book: Knows jobs.
        above_bytes: An input that is larger is an object.
        link_s: How long a signed URL can be used, in seconds; 0 for none.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self,
        place: Place,
        book: RetentionBook,
        *,
        above_bytes: int,
        link_s: int,
        wall_clock: WallClock,
    ) -> None:
        self.above_bytes = above_bytes
        self._place = place
        self._book = book
        self._link_s = link_s
        self._wall_clock = wall_clock
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    async def put(self, uid: str, content: memoryview) -> ObjectRef:
        """Put the input of a job there.

        Raises:
            Unavailable: The place is away.
        """
        return await self._ask(partial(write_object, self._place, f"{uid}/input", [content]))

    async def link(self, found: ObjectRef) -> str | None:
        """Return a URL by which a result can be fetched for a while; None if there are none.

        Raises:
            ObjectLost: It is not there, or another one is.
            Unavailable: The place is away.
        """
        if await self._ask(partial(self._place.size, found.name)) != found.size:
            raise ObjectLost("the job's result is not in the object store any more, or damaged")
        if not self._link_s:
            return None
        media_type = found.media_type
        link = partial(self._place.link, found.name, expires_s=self._link_s, media_type=media_type)
        return await self._ask(link)

    async def read(self, found: ObjectRef) -> AsyncIterator[bytes]:
        """Yield a result."""
        stream = await self._ask(partial(self._place.open, found.name))
        try:
            while piece := await self._ask(partial(stream.read, PIECE_BYTES)):
                yield piece
        finally:
            await self._ask(stream.close)

    def drop(self, uids: Sequence[str]) -> None:
        """Remove what jobs have that were forgotten, soon; the janitor removes what is left."""
        for uid in uids:
            self._executor.submit(self._remove, uid)

    async def run(self) -> None:
        """Remove what no job needs, every now and then, until cancelled."""
        while True:
            try:
                await self._ask(self.clean_up)
            except Unavailable as error:
                log.warning("objects_not_removed", extra={"why": error.detail})
            except Exception:
                log.exception("unexpected_error", extra={"id": "jobs"})
            await asyncio.sleep(JANITOR_S)

    def clean_up(self) -> None:
        """Remove what no job needs, but for what is new. Blocks."""
        newest_ms = int((self._wall_clock() - ABANDONED_S) * 1000)
        names = [name for name in self._place.names("") if _made_ms(name) < newest_ms]
        for at in range(0, len(names), AT_ONCE):
            some = names[at : at + AT_ONCE]
            known = self._book.known(some)
            for name in some:
                if name not in known:
                    self._place.remove(name)

    def _remove(self, uid: str) -> None:
        try:
            self._place.remove(uid)
        except PlaceAway as error:
            log.warning("objects_not_removed", extra={"why": str(error)})

    async def _ask(self, ask: Callable[[], T]) -> T:
        """Run what blocks.

        Raises:
            ObjectLost: An object is not there.
            Unavailable: The place, or the book, is away.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, ask)
        except FileNotFoundError as error:
            raise ObjectLost("the job's result is not in the object store any more") from error
        except (BookAway, PlaceAway, OSError) as error:
            raise Unavailable(
                f"the object store of jobs is away: {error}", retry_after_s=RETRY_AFTER_S
            ) from error


def write_object(place: Place, name: str, pieces: Sequence[bytes | memoryview]) -> ObjectRef:
    """Write an object, and return what it is then.

    Raises:
        PlaceAway: The place is away.
    """
    digest = sha256()
    with place.writing(name) as stream:
        for piece in pieces:
            for at in range(0, len(piece), PIECE_BYTES):
                some = piece[at : at + PIECE_BYTES]
                digest.update(some)
                stream.write(some)
    return ObjectRef(name, sum(map(len, pieces)), digest.hexdigest())


def _made_ms(name: str) -> int:
    """Return when a uid was made; the end of time for what is none: it is not ours."""
    try:
        return int(name[:12], 16) if len(name) == 32 else 1 << 62
    except ValueError:
        return 1 << 62
