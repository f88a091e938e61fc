"""The OpenAI API: ``POST /v1/chat/completions`` and ``/v1/completions``.

A request is one instance, as it came: of its body the model's name and the fields beside it are
read, the rest is the runner's. The model's answer gets id, time and the model's name around it.
``embeddings.py`` is the third call, and ``v1_pages.py`` has the list of models.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import InvalidInput, ModelFailed, RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.heads import Head
from modelyard.gateway.nesting import check_nesting
from modelyard.gateway.openai_errors import openai_problem
from modelyard.gateway.openai_joined import join_chat, join_text
from modelyard.gateway.openai_stream import OpenAIStream
from modelyard.gateway.question import INLINE_PARSE_BYTES, decode_body

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)


class Kind(NamedTuple):
    """A kind of completion.

    Attributes:
        answer: What the API calls an answer.
        piece: What it calls a piece of one.
        id_begins: How ids of answers begin.
        takes: The type of request that the model must take.
        join: Makes an answer of its pieces.
        first: The choice before the first piece, with a place for its number; empty for none.
        last: The choice after the last one.
    """

    answer: str
    piece: str
    id_begins: str
    takes: str
    join: Callable[[bytes], bytes]
    first: bytes
    last: bytes


KINDS = {
    b"/v1/chat/completions": Kind(
        answer="chat.completion",
        piece="chat.completion.chunk",
        id_begins="chatcmpl",
        takes="modelyard.openai.ChatRequest",
        join=join_chat,
        first=b'{"delta":{"role":"assistant","content":""},"index":%d,"finish_reason":null}',
        last=b'[{"delta":{},"index":0,"finish_reason":"stop"}]',
    ),
    b"/v1/completions": Kind(
        answer="text_completion",
        piece="text_completion",
        id_begins="cmpl",
        takes="modelyard.openai.CompletionRequest",
        join=join_text,
        first=b"",
        last=b'[{"text":"","index":0,"finish_reason":"stop"}]',
    ),
}
"""By path."""

MOST_CHOICES = 128

_VERSION = "@"


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class Named(msgspec.Struct, gc=False):
    """What is read of a request. ``timeout_s`` and ``priority``, as ``/predict`` has them, come by
    the client's ``extra_body``.
    """

    model: str
    timeout_s: float | None = None
    priority: Priority = "normal"
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None


_decode = msgspec.json.Decoder(Named).decode


def open_completions(head: Head) -> CompletionsDoor | None:
    """Return the door of a request; None if it is none for a completion."""
    kind = KINDS.get(head.path)
    return None if kind is None else CompletionsDoor(kind)


def name_and_version(model: str) -> tuple[str, str | None]:
    """Return what ``model`` names: ``NAME``, or ``NAME@VERSION``."""
    name, _, version = model.partition(_VERSION)
    return name, version or None


@lru_cache(maxsize=1024)
def gives(schema: bytes, kind: str) -> bool:
    """Return whether a model whose output has this schema answers with a kind of completion."""
    return b'"x-openai": "%b"' % kind.encode() in schema or schema == b"{}"


class CompletionsDoor:
    """Translates one kind of completion."""

    form: Form = "json"

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._begin = b'{"id":"%b-%%b","object":"%b","created":%%d,"model":"%%b",' % (
            kind.id_begins.encode(),
            kind.answer.encode(),
        )

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return body_bytes <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        check_nesting(body)
        named = decode_body(body, "json", _decode)
        name, version = name_and_version(named.model)
        raw = msgspec.Raw(b"[%b]" % bytes(body))
        written = self._stream(named, name) if named.stream else None
        return Heard(name, raw, version, named.timeout_s, named.priority, written=written)

    def _stream(self, named: Named, name: str) -> OpenAIStream:
        """Return how the pieces of an answer are written."""
        kind, first = self._kind, b""
        if kind.first:
            choices = range(min(named.n or 1, MOST_CHOICES))
            first = b"[%b]" % b",".join(kind.first % number for number in choices)
        options = named.stream_options
        return OpenAIStream(
            kind.piece,
            kind.id_begins,
            name,
            first=first,
            last=kind.last,
            has_usage=options is not None and bool(options.include_usage),
        )

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``."""
        schema = entry.announcement.schema
        if schema is None:
            return
        kind = self._kind.answer
        if not gives(schema.output, kind) or (schema.piece and not gives(schema.piece, kind)):
            raise InvalidInput(
                f"{entry.target} gives no such answers: it takes no {self._kind.takes}",
                where="$.model",
            )

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        if output.startswith(b"[["):
            try:
                output = self._kind.join(output)
            except msgspec.MsgspecError as error:
                raise ModelFailed(f"the pieces make no answer: {error}") from error
        elif not output.startswith(b"[{"):  # its schema was not known yet
            raise ModelFailed("what the model gave is no completion")
        begin = self._begin % (told.request_id.encode(), int(time.time()), target.name.encode())
        body = begin + output[2:-1]  # of a list with one object, without what begins it
        return HEAD % (len(body), told.request_id.encode(), told.cache_use.encode()), body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return openai_problem(error, request_id)
