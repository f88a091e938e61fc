"""How the pieces of a streamed answer are written: server-sent events, or JSON Lines."""

from __future__ import annotations

import re
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
_WHOLE = b"application/json"
_WEIGHT = re.compile(rb"[01](\.\d{0,3})?")


def format_of(accept: bytes) -> StreamFormat | None:
    """Return the format that a client wants; None if it wants the answer as a whole. Of several
    types that are known the one with the highest weight counts, and of these the first.
    """
    best, found = 0.0, None
    for part in accept.lower().split(b","):
        wanted, *parameters = (one.strip() for one in part.split(b";"))
        if wanted in _FORMATS or wanted == _WHOLE:
            weight = _weight_in(parameters)
            if weight > best:
                best, found = weight, _FORMATS.get(wanted)
    return found


def _weight_in(parameters: list[bytes]) -> float:
    """Return the weight of a type (RFC 9110, 12.4.2), from 0 to 1."""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q" and _WEIGHT.fullmatch(value.strip()):
            return float(value)
    return 1.0
