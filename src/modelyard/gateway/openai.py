"""The OpenAI API: ``POST /v1/chat/completions`` and ``/v1/completions``.

A request is one instance, as it came: of its body the model's name and the fields beside it are
read, the rest is the runner's. The model's answer gets id, time and the model's name around it.
``embeddings.py`` is the third call, and ``v1_pages.py`` has the list of models.
"""

from __future__ import annotations

import time
from functools import lru_cache

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import InvalidInput, RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Entry
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.heads import Head
from modelyard.gateway.nesting import check_nesting
from modelyard.gateway.openai_errors import openai_problem
from modelyard.gateway.question import INLINE_PARSE_BYTES, decode_body

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)
KINDS = {
    b"/v1/chat/completions": ("chat.completion", "chatcmpl", "modelyard.openai.ChatRequest"),
    b"/v1/completions": ("text_completion", "cmpl", "modelyard.openai.CompletionRequest"),
}
"""By path: the kind of answer, how its id begins, and what its model takes."""

_VERSION = "@"


class Named(msgspec.Struct, gc=False):
    """What is read of a request. ``timeout_s`` and ``priority``, as ``/predict`` has them, come by
    the client's ``extra_body``.
    """

    model: str
    timeout_s: float | None = None
    priority: Priority = "normal"
    stream: bool | None = None


_decode = msgspec.json.Decoder(Named).decode


def open_completions(head: Head) -> CompletionsDoor | None:
    """Return the door of a request; None if it is none for a completion."""
    kind = KINDS.get(head.path)
    return None if kind is None else CompletionsDoor(*kind)


def name_and_version(model: str) -> tuple[str, str | None]:
    """Return what ``model`` names: ``NAME``, or ``NAME@VERSION``."""
    name, _, version = model.partition(_VERSION)
    return name, version or None


@lru_cache(maxsize=1024)
def gives(schema: bytes, kind: str) -> bool:
    """Return whether a model whose output has this schema answers with a kind of completion."""
    return b'"x-openai": "%b"' % kind.encode() in schema or schema == b"{}"


class CompletionsDoor:
    """Translates completions.

    Args:
        kind: What the API calls the answer.
        id_begins: How its ids begin.
        takes: The type of request that the model must take.
    """

    form: Form = "json"

    def __init__(self, kind: str, id_begins: str, takes: str) -> None:
        self._kind = kind
        self._begin = b'{"id":"%b-%%b","object":"%b","created":%%d,"model":"%%b",' % (
            id_begins.encode(),
            kind.encode(),
        )
        self._takes = takes

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return body_bytes <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        check_nesting(body)
        named = decode_body(body, "json", _decode)
        if named.stream:
            raise InvalidInput("this model does not answer in pieces", where="$.stream")
        name, version = name_and_version(named.model)
        return Heard(
            name, msgspec.Raw(b"[%b]" % bytes(body)), version, named.timeout_s, named.priority
        )

    def check(self, entry: Entry) -> None:
        """See ``Door``."""
        schema = entry.announcement.schema
        if schema is not None and not gives(schema.output, self._kind):
            raise InvalidInput(
                f"{entry.target} gives no such answers: its predict takes no {self._takes}",
                where="$.model",
            )

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        begin = self._begin % (told.request_id.encode(), int(time.time()), target.name.encode())
        body = begin + output[2:-1]  # of a list with one object, without what begins it
        return HEAD % (len(body), told.request_id.encode(), told.cache_use.encode()), body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return openai_problem(error, request_id)
