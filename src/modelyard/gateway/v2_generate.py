"""Text and the like by V2's extension for generation: ``POST /v2/models/NAME/generate``, and
``generate_stream`` for server-sent events.

A request is one instance. Of a model that takes texts it is ``text_input``; of one that takes
objects it is what the request holds, but for ``id``, and with ``parameters`` only if the model
knows them. An answer is an object: ``text_output``, or the fields of what the model gives.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from modelyard.core.errors import InvalidInput, Malformed, RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.answer import error_answer, error_body
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.heads import Head
from modelyard.gateway.nesting import check_nesting
from modelyard.gateway.problems import problem_of
from modelyard.gateway.question import INLINE_PARSE_BYTES

_PATH = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/generate(_stream)?")
_TEXT = "text_input"
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def open_generate(head: Head) -> GenerateDoor | None:
    """Return the door of a request; None if it does not ask for a generation."""
    found = _PATH.fullmatch(head.path)
    if found is None:
        return None
    name, version = found[1].decode("utf-8", "replace"), found[2]
    return GenerateDoor(
        name,
        None if version is None else version.decode("utf-8", "replace"),
        is_stream=found[3] is not None,
    )


class GenerateDoor:
    """Translates generations.

    Args:
        name: Of the model.
        version: None for the one that the model answers with by default.
        is_stream: Whether the answer is wanted in pieces.
    """

    form: Form = "json"

    def __init__(self, name: str, version: str | None, *, is_stream: bool) -> None:
        self._name = name
        self._version = version
        self._is_stream = is_stream

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return body_bytes <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``; ``check`` makes an instance of the body, which only the target can tell."""
        check_nesting(body)
        try:
            fields = _decode(body)
            given_id = msgspec.json.decode(fields.get("id", b'""'), type=str)
        except msgspec.MsgspecError as error:
            raise Malformed(str(error)) from None
        echo = msgspec.json.encode(given_id) if given_id else b""
        written = _Events(echo) if self._is_stream else None
        raw = msgspec.Raw(bytes(body))
        return Heard(self._name, raw, self._version, echo=echo, written=written)

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``. A model without pieces answers with one event, of all of it."""
        if isinstance(ask, Heard) and entry.gives_no_pieces:
            ask.written = None
        fields = _decode(ask.input_data)
        fields.pop("id", None)
        schema = entry.announcement.schema
        takes = _properties_of(schema.input) if schema is not None else None
        if takes is not None and "parameters" not in takes:
            fields.pop("parameters", None)
        if takes is not None:
            instance = msgspec.json.encode(fields)
        elif _TEXT in fields:
            instance = bytes(fields[_TEXT])
        else:
            raise InvalidInput(f"{_TEXT} is missing", where=f"$.{_TEXT}")
        ask.input_data = msgspec.Raw(b"[%b]" % instance)

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        (first,) = msgspec.json.decode(output, type=list[Any])
        if isinstance(first, list) and all(isinstance(piece, str) for piece in first):
            first = "".join(first)  # the pieces of a model that only has a stream
        body = _object_of(target.name, target.version, echo, msgspec.json.encode(first))
        kind = b"application/json"
        if self._is_stream:
            kind, body = _Events.media_type, b"data: %b\n\n" % body
        return _HEAD % (kind, len(body), told.request_id.encode(), told.cache_use.encode()), body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return error_answer(error, request_id, input_name="input")


class _Events:
    """Server-sent events, as Triton's ``generate_stream`` writes them."""

    media_type = b"text/event-stream"
    comment = b":\n\n"

    def __init__(self, echo: bytes) -> None:
        self._echo = echo

    def piece(self, target: Target, piece: bytes) -> bytes:
        """See ``StreamFormat``."""
        event = _object_of(target.name, target.version, self._echo, piece)
        return b"data: %b\n\n" % event

    def end(self, target: Target, *, pieces: int) -> bytes:
        """See ``StreamFormat``: the connection says it."""
        return b""

    def error(self, error: RequestError, request_id: str) -> bytes:
        """See ``StreamFormat``."""
        problem = problem_of(error, request_id=request_id)
        return b"data: %b\n\n" % error_body(problem, input_name="input")


def _object_of(name: str, version: str, echo: bytes, value: bytes) -> bytes:
    """Return an answer: what the model gives, with its name."""
    rest = value[1:-1] if value[:1] == b"{" else b'"text_output":' + value
    return b'{%b"model_name":"%b","model_version":"%b"%b%b}' % (
        b'"id":%b,' % echo if echo else b"",
        name.encode(),
        version.encode(),
        b"," if rest else b"",
        rest,
    )


@lru_cache(maxsize=1024)
def _properties_of(schema: bytes) -> frozenset[str] | None:
    """Return the fields of an instance, from the schema of ``input_data``; None if it is none."""
    document = msgspec.json.decode(schema, type=dict[str, Any])
    items = document.get("items", {})
    reference = items.get("$ref", "").rpartition("/")[2]
    items = document.get("$defs", {}).get(reference, items)
    return frozenset(items["properties"]) if "properties" in items else None
