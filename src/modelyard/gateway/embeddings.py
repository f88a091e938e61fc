"""The OpenAI API: ``POST /v1/embeddings``, for every model that takes texts and gives arrays.

OpenAI's own clients ask for base64, which is the bytes of the numbers. So the model is asked in
MessagePack, which keeps them.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import InvalidInput, ModelFailed, RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.core.packed import read_packed, to_lists
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.heads import Head
from modelyard.gateway.nesting import check_nesting
from modelyard.gateway.openai import HEAD, name_and_version
from modelyard.gateway.openai_errors import openai_problem
from modelyard.gateway.question import INLINE_PARSE_BYTES, decode_body

PATH = b"/v1/embeddings"
_FLOAT_BYTES = 4
_BASE64 = b"base64"


class _Request(msgspec.Struct, gc=False):
    model: str
    input: str | list[str | int | list[int]]  # texts, or tokens
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"


_decode = msgspec.json.Decoder(_Request).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack_lists = msgspec.msgpack.Decoder(list[list[float]]).decode
_to_json = msgspec.json.Encoder().encode


def open_embeddings(head: Head) -> EmbeddingsDoor | None:
    """Return the door of a request; None if it is none for embeddings."""
    return EmbeddingsDoor() if head.path == PATH else None


class EmbeddingsDoor:
    """Translates embeddings."""

    form: Form = "msgpack"

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return body_bytes <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        check_nesting(body)
        asked = decode_body(body, "json", _decode)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not all(isinstance(text, str) for text in texts):
            raise InvalidInput("tokens are not taken here, but texts", where="$.input")
        if asked.dimensions is not None:
            raise InvalidInput("a model's dimensions are its own", where="$.dimensions")
        name, version = name_and_version(asked.model)
        raw, echo = msgspec.Raw(_pack(texts)), asked.encoding_format.encode()
        return Heard(name, raw, version, asked.timeout_s, asked.priority, echo)

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``."""
        schema = entry.announcement.schema
        if schema is not None and not _embeds(schema.input, schema.output):
            raise InvalidInput(
                f"{entry.target} is no embedding model: those take list[str], and give an array of "
                "floats with two axes",
                where="$.model",
            )

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        write = _rows_in_base64 if echo == _BASE64 else _rows_as_lists
        try:
            rows = write(output)
        except (msgspec.MsgspecError, ValueError, OverflowError, struct.error) as error:
            raise ModelFailed(f"what the model gave are no embeddings: {error}") from error
        data = b",".join(
            b'{"object":"embedding","index":%d,"embedding":%b}' % (index, row)
            for index, row in enumerate(rows)
        )
        # Models do not tell how many tokens a text has.
        body = (
            b'{"object":"list","data":[%b],"model":"%b",'
            b'"usage":{"prompt_tokens":0,"total_tokens":0}}' % (data, target.name.encode())
        )
        return HEAD % (len(body), told.request_id.encode(), told.cache_use.encode()), body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return openai_problem(error, request_id)


def _rows_in_base64(output: bytes) -> list[bytes]:
    packed = read_packed(memoryview(output))
    if packed is None or packed.dtype != "<f4" or len(packed.shape) != 2:
        rows = [struct.pack(f"<{len(row)}f", *row) for row in _floats(output)]
    else:
        size = packed.shape[1] * _FLOAT_BYTES
        rows = [
            bytes(packed.data[start : start + size]) for start in range(0, len(packed.data), size)
        ]
    return [b'"%b"' % binascii.b2a_base64(row, newline=False) for row in rows]


def _rows_as_lists(output: bytes) -> list[bytes]:
    return [_to_json(row) for row in _floats(output)]


def _floats(output: bytes) -> Sequence[Sequence[float]]:
    packed = read_packed(memoryview(output))
    if packed is None:
        return _unpack_lists(output)
    if len(packed.shape) != 2:
        raise ValueError(f"the array has the shape {packed.shape}")
    rows: Sequence[Sequence[float]] = to_lists(packed)
    return rows


@lru_cache(maxsize=1024)
def _embeds(input_schema: bytes, output_schema: bytes) -> bool:
    """Return whether a model takes texts and gives a list of numbers for each."""
    takes, gives = msgspec.json.decode(input_schema), msgspec.json.decode(output_schema)
    if not (takes and gives):  # too large to be announced
        return True
    given = _items(_items(gives))
    return _items(takes).get("type") == "string" and given.get("type") in ("number", "integer")


def _items(schema: dict[str, Any]) -> dict[str, Any]:
    found = schema.get("items")
    return found if isinstance(found, dict) else {}
