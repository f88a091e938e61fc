"""Where the pieces of streams go: to the pool, gathered into frames, or into a prediction.

A first piece leaves at once, and those that follow within ``GATHER_S`` leave together, of all
streams in one frame. So 500 streams of 50 pieces per second cost some 70 frames per second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from modelyard.core.errors import Failure
from modelyard.core.messages import Part, Pieces
from modelyard.core.stream import WINDOW

GATHER_S = 0.015


class Outlet(Protocol):
    """Takes the pieces of one stream.

    ``room``: how many more it takes at present. ``on_room``: called when there is room again; set
    by the source.
    """

    room: int
    on_room: Callable[[], None]

    def put(self, piece: Any) -> None:
        """Take a piece.

        Raises:
            UnfitPredictions: It does not match its annotation.
        """
        ...

    def end(self, error: BaseException | None) -> None:
        """End the stream."""
        ...


def _nothing() -> None:
    pass


class WireOutlet:
    """A stream that a client reads.

    Args:
        id_: The pool's number of it.
        gathered: Takes the pieces to the pool.
        encode: Writes a piece.
        explain: Says in a Failure what an exception was.
        on_end: Called when it has ended.
    """

    def __init__(
        self,
        id_: int,
        gathered: Gathered,
        *,
        encode: Callable[[Any], bytes],
        explain: Callable[[BaseException], Failure],
        on_end: Callable[[int], object],
    ) -> None:
        self.room = WINDOW
        self.on_room: Callable[[], None] = _nothing
        self._is_ended = False
        self._id = id_
        self._gathered = gathered
        self._encode = encode
        self._explain = explain
        self._on_end = on_end

    def put(self, piece: Any) -> None:
        """See ``Outlet``."""
        self._gathered.add(self._id, self._encode(piece))
        self.room -= 1

    def end(self, error: BaseException | None) -> None:
        """See ``Outlet``."""
        if self._is_ended:
            return
        self._is_ended = True
        self._gathered.end(self._id, None if error is None else self._explain(error))
        self._on_end(self._id)

    def grant(self, pieces: int) -> None:
        """Take so many more."""
        self.room += pieces
        if self.room > 0:
            self.on_room()


class ListOutlet:
    """A stream that is wanted as a whole.

    Attributes:
        done: Has all the pieces, once it has ended.
    """

    def __init__(self) -> None:
        self.room = 1
        self.on_room: Callable[[], None] = _nothing
        self.done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._pieces: list[Any] = []

    def put(self, piece: Any) -> None:
        """See ``Outlet``."""
        self._pieces.append(piece)

    def end(self, error: BaseException | None) -> None:
        """See ``Outlet``."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(self._pieces)
        else:
            self.done.set_exception(error)


class Gathered:
    """Pieces that have not gone to the pool yet.

    Args:
        send: Sends them.
    """

    def __init__(self, send: Callable[[Pieces], None]) -> None:
        self._send = send
        self._pieces: dict[int, list[bytes]] = {}
        self._ended: dict[int, Failure | None] = {}
        self._sent: dict[int, int] = {}  # by stream, how many have gone
        self._is_soon = False
        self._later: asyncio.TimerHandle | None = None

    def begin(self, id_: int) -> None:
        """Expect the pieces of a stream."""
        self._sent[id_] = 0

    def add(self, id_: int, piece: bytes) -> None:
        """Take a piece."""
        waiting = self._pieces.get(id_)
        if waiting is not None:
            waiting.append(piece)
            return
        self._pieces[id_] = [piece]
        self._schedule(is_first=not self._sent[id_])

    def end(self, id_: int, failure: Failure | None) -> None:
        """Note the end of a stream."""
        self._ended[id_] = failure
        self._schedule(is_first=not self._sent[id_])

    def _schedule(self, *, is_first: bool) -> None:
        loop = asyncio.get_running_loop()
        if is_first and not self._is_soon:
            self._is_soon = True
            loop.call_soon(self._flush)
        elif self._later is None and not self._is_soon:
            self._later = loop.call_later(GATHER_S, self._flush)

    def _flush(self) -> None:
        self._is_soon = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not (self._pieces or self._ended):
            return
        parts = []
        for id_ in self._pieces | self._ended:
            pieces = self._pieces.get(id_, [])
            first, is_last = self._sent[id_], id_ in self._ended
            parts.append(Part(id_, first, pieces, is_last, self._ended.get(id_)))
            if is_last:
                del self._sent[id_]
            else:
                self._sent[id_] = first + len(pieces)
        self._pieces, self._ended = {}, {}
        self._send(Pieces(parts))
