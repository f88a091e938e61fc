"""The pieces of one streamed answer, on their way from a runner to the client.

A call whose answer is wanted in pieces has a ``Stream``. Whoever gets pieces from below calls
``put``, which passes them to the reader above: in a worker to ``transports/amqp/pieces.py``, in a
gateway to ``gateway/streams.py``. The reader calls ``grant`` for what it has dealt with, and that
goes down to the runner.

The end is the call's outcome: ``ENDED``, or an error. Before the first piece such a call is like
any other, and runs again if its runner ends.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW = 64
"""Pieces that a runner may be ahead of the client."""

LARGEST_PIECE_BYTES = 1 << 20

ENDED = b""
"""The outcome of a call whose pieces have all been given."""


class Stream:
    """Where the pieces of a call go.

    Args:
        on_pieces: Called with the next pieces, each as JSON.

    Attributes:
        received: How many pieces have come.
        ask_more: Called with a number of pieces that the reader can take in addition. Set by
            whoever puts pieces.
    """

    __slots__ = ("_on_pieces", "ask_more", "received")

    def __init__(self, on_pieces: Callable[[list[bytes]], None]) -> None:
        self._on_pieces = on_pieces
        self.received = 0
        self.ask_more: Callable[[int], None] | None = None

    def put(self, first: int, pieces: list[bytes]) -> bool:
        """Pass on the pieces from number ``first`` on; False if others should have come before."""
        if first != self.received:
            return False
        if pieces:
            self.received += len(pieces)
            self._on_pieces(pieces)
        return True

    def grant(self, pieces: int) -> None:
        """Ask for more pieces, as many as have been dealt with."""
        if self.ask_more is not None:
            self.ask_more(pieces)
