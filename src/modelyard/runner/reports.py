"""What a blocking model and its pool tell each other while ``predict`` runs.

Nothing is done for it between batches: whether a batch was cancelled is looked up in the socket,
when the model asks. The pool writes ``Leave`` only while it has nothing else on the way to this
runner, so what lies first in the socket then is about the batch that runs.
"""

from __future__ import annotations

import math
import socket
import threading
import time

from modelyard.core.messages import Leave, Progress, encode_frame

EVERY_S = 0.1  # at most so often progress is told
LONGEST_MESSAGE = 200
WHOLE = (0.0, 1.0)
_LEFT = bytes(encode_frame(Leave([])))


def progress_of(fraction: float, message: str, id_: int = 0) -> Progress:
    """Return what is told of a model's progress.

    Raises:
        ValueError: It is no number.
    """
    share = float(fraction)
    if math.isnan(share):
        raise ValueError("progress is a number from 0 to 1, not NaN")
    return Progress(min(1.0, max(0.0, share)), str(message)[:LONGEST_MESSAGE], id_)


class Reports:
    """The way from a model to its pool, and back.

    Args:
        channel: The socket to the pool.

    Attributes:
        part: Where the current call of ``predict`` begins in its batch, and how much of it it is.
            It is all of it, unless a request is larger than a batch may be.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.part = WHOLE
        self._channel = channel
        self._thread = threading.get_ident()
        self._next = 0.0

    def progress(self, fraction: float, message: str) -> None:
        """See ``Model.progress``."""
        now = time.monotonic()
        if now < self._next or threading.get_ident() != self._thread:
            return  # another thread would write amid an answer
        begin, size = self.part
        told = progress_of(fraction, message)
        told = progress_of(begin + size * told.fraction, told.message)
        self._next = now + EVERY_S
        self._channel.sendall(encode_frame(told))

    def is_cancelled(self) -> bool:
        """See ``Model.is_cancelled``."""
        try:
            first = self._channel.recv(len(_LEFT), socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return first == _LEFT
