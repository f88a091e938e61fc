"""What a blocking model and its pool tell each other while ``predict`` runs.

Nothing is done for it between batches: whether a batch was cancelled is looked up in the socket,
when the model asks. The pool writes ``Leave`` only while it has nothing else on the way to this
runner, so what lies first in the socket then is about the batch that runs.
"""

from __future__ import annotations

import socket

from modelyard.core.messages import Leave, encode_frame

_LEFT = bytes(encode_frame(Leave([])))


class Reports:
    """The way from a model to its pool, and back.

    Args:
        channel: The socket to the pool.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def is_cancelled(self) -> bool:
        """See ``Model.is_cancelled``."""
        try:
            first = self._channel.recv(len(_LEFT), socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return first == _LEFT
