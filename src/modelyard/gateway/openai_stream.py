"""Streamed answers as OpenAI's clients read them: server-sent events, the last one ``[DONE]``."""

from __future__ import annotations

import time

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.names import Target
from modelyard.gateway.openai_errors import error_document
from modelyard.gateway.question import new_request_id

DONE = b"data: [DONE]\n\n"

_HAS_USAGE, _HAS_ENDED = b'"usage":{', b'"finish_reason":"'
_encode = msgspec.json.Encoder().encode


class _Piece(msgspec.Struct, gc=False):
    choices: msgspec.Raw
    usage: msgspec.Raw


_decode = msgspec.json.Decoder(_Piece).decode


class OpenAIStream:
    """One answer's ``StreamFormat``: each piece gets id, time and the model's name.

    Args:
        kind: What the API calls a piece.
        id_begins: How the answer's id begins.
        model: The model's name.
        first: The choices before the first piece; empty for none.
        last: Those after the last one, if the model has not said why it ended.
        has_usage: Whether the client wants to know what it took.
    """

    media_type = b"text/event-stream"
    comment = b":\n\n"

    def __init__(
        self,
        kind: str,
        id_begins: str,
        model: str,
        *,
        first: bytes,
        last: bytes,
        has_usage: bool,
    ) -> None:
        self._begin = b'data: {"id":"%b-%b","object":"%b","created":%d,"model":%b,"choices":' % (
            id_begins.encode(),
            new_request_id().encode(),
            kind.encode(),
            time.time(),
            _encode(model),
        )
        self._first = first
        self._last = last
        self._has_usage = has_usage
        self._no_usage = b',"usage":null' if has_usage else b""  # of all but the last
        self._usage = b""

    def piece(self, target: Target, piece: bytes) -> bytes:
        """See ``StreamFormat``."""
        choices = piece[len(b'{"choices":') : -1]
        if _HAS_USAGE in piece:  # in one piece of each answer
            found = _decode(piece)
            choices, self._usage = bytes(found.choices), bytes(found.usage)
        if _HAS_ENDED in choices:
            self._last = b""
        first, self._first = self._first, b""
        event = self._event(choices) if choices != b"[]" else b""
        return self._event(first) + event if first else event

    def end(self, target: Target, *, pieces: int) -> bytes:
        """See ``StreamFormat``."""
        first = self._event(self._first) if self._first else b""
        last = self._event(self._last) if self._last else b""
        if self._has_usage and self._usage:
            last += b'%b[],"usage":%b}\n\n' % (self._begin, self._usage)
        return first + last + DONE

    def error(self, error: RequestError, request_id: str) -> bytes:
        """See ``StreamFormat``."""
        return b"data: %b\n\n" % error_document(error, request_id)

    def _event(self, choices: bytes) -> bytes:
        return b"%b%b%b}\n\n" % (self._begin, choices, self._no_usage)
