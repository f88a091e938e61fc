"""How the pieces of a streamed answer are written: server-sent events, or JSON Lines."""

from __future__ import annotations

from typing import Protocol

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.names import Target
from modelyard.gateway.problems import problem_of


class StreamFormat(Protocol):
    """One way to write pieces."""

    @property
    def media_type(self) -> bytes:
        """The response's content type."""
        ...

    @property
    def comment(self) -> bytes:
        """What a reader skips, so that proxies see that the connection is in use."""
        ...

    def piece(self, target: Target, piece: bytes) -> bytes:
        """Return a piece, which is JSON, as it is sent."""
        ...

    def end(self, target: Target, *, pieces: int) -> bytes:
        """Return what follows the last piece."""
        ...

    def error(self, error: RequestError, request_id: str) -> bytes:
        """Return what ends the stream in place of the pieces that are missing."""
        ...


class _End(msgspec.Struct):
    model_name: str
    model_version: str
    pieces: int


class ServerSentEvents:
    """``text/event-stream``: a piece is a message; ``end`` or ``error`` is the last event."""

    media_type = b"text/event-stream"
    comment = b":\n\n"

    def piece(self, target: Target, piece: bytes) -> bytes:
        """See ``StreamFormat``. JSON holds no line breaks."""
        return b"data: %b\n\n" % piece

    def end(self, target: Target, *, pieces: int) -> bytes:
        """See ``StreamFormat``."""
        end = msgspec.json.encode(_End(target.name, target.version, pieces))
        return b"event: end\ndata: %b\n\n" % end

    def error(self, error: RequestError, request_id: str) -> bytes:
        """See ``StreamFormat``."""
        return b"event: error\ndata: %b\n\n" % problem_of(error, request_id=request_id).body


class JsonLines:
    """``application/jsonl``: an object per line, ``{"piece": …}``; the last one has ``end`` or
    ``error`` in place of ``piece``.
    """

    media_type = b"application/jsonl"
    comment = b"\n"

    def piece(self, target: Target, piece: bytes) -> bytes:
        """See ``StreamFormat``."""
        return b'{"piece":%b}\n' % piece

    def end(self, target: Target, *, pieces: int) -> bytes:
        """See ``StreamFormat``."""
        return msgspec.json.encode({"end": _End(target.name, target.version, pieces)}) + b"\n"

    def error(self, error: RequestError, request_id: str) -> bytes:
        """See ``StreamFormat``."""
        return b'{"error":%b}\n' % problem_of(error, request_id=request_id).body


_FORMATS: dict[bytes, StreamFormat] = {
    b"text/event-stream": ServerSentEvents(),
    b"application/jsonl": JsonLines(),
    b"application/x-ndjson": JsonLines(),
}


def format_of(accept: bytes) -> StreamFormat | None:
    """Return the format that a client wants; None if it wants the answer as a whole. Of several
    types that it accepts the first one that is known counts.
    """
    for part in accept.lower().split(b","):
        wanted = part.partition(b";")[0].strip()
        if wanted == b"application/json":
            return None
        if wanted in _FORMATS:
            return _FORMATS[wanted]
    return None
