"""Inference by the Open Inference Protocol V2: ``POST /v2/models/NAME[/versions/V]/infer``.

Of a request the head is read, which is JSON; tensors stay as they came, for the runner
(``core/v2.py``). The protocol's other calls are pages (``v2_pages.py``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.deadline import LONGEST_TIMEOUT_S
from modelyard.core.errors import InvalidInput, Malformed, RequestError, Unavailable
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.core.v2 import RAW_HEAD, pack, pack_in_place, question_head, unpack
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.answer import error_answer
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.heads import Head
from modelyard.gateway.inflate import WINDOWS, Coding
from modelyard.gateway.nesting import check_nesting
from modelyard.gateway.question import INLINE_PARSE_BYTES, decode_body

LONGEST_LENGTH = 18  # digits
HEADER_LENGTH = b"inference-header-content-length"
LARGEST_COMPRESSED_BYTES = 256 * 1024  # more would hold the loop

_PATH = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_USUAL: tuple[float | None, Priority, bool] = (None, "normal", False)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)
_JSON_HEAD = _HEAD.replace(b"%b", b"application/json", 1)
_FRAMING = b"inference-header-content-length: %d\r\n"
_LONGEST_TIMEOUT = int(LONGEST_TIMEOUT_S * 1e6)  # microseconds
_HIGHEST = 1  # of Triton's priorities; 0 is the default
_CODINGS: dict[bytes, Coding] = {b"gzip": "gzip", b"deflate": "deflate"}


class _Request(msgspec.Struct, gc=False):
    """What is read of a request. Its tensors stay raw."""

    inputs: msgspec.Raw
    id: str | None = None
    outputs: msgspec.Raw = msgspec.Raw(b"null")
    parameters: dict[str, Any] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Request).decode


def open_v2(head: Head) -> V2Door | None:
    """Return the door of a request; None if it does not ask for an inference."""
    found = _PATH.fullmatch(head.path)
    if found is None:
        return None
    name, version = found[1].decode("utf-8", "replace"), found[2]
    return V2Door(
        name,
        None if version is None else version.decode("utf-8", "replace"),
        json_bytes=_length_of(head.headers.get(HEADER_LENGTH)),
        coding=head.headers.get(b"accept-encoding", b"").strip().lower(),
    )


class V2Door:
    """Translates inferences.

    Args:
        name: Of the model.
        version: None for the one that the model answers with by default.
        json_bytes: How many bytes of the body are JSON; None for all, and -1 if the header that
            says it is damaged.
        coding: What the client takes answers in. They are compressed if it is just one: lists are
            what HTTP libraries send unasked.
    """

    form: Form = "v2"

    def __init__(
        self, name: str, version: str | None, *, json_bytes: int | None, coding: bytes
    ) -> None:
        self._name = name
        self._version = version
        self._json_bytes = json_bytes
        self._coding = _CODINGS.get(coding, "")

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``: binary tensors are not looked at."""
        return (body_bytes if self._json_bytes is None else self._json_bytes) <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        length = self._json_bytes
        if length is None:
            return self._hear(body, body)
        if not 0 <= length <= len(body):
            raise Malformed(
                "Inference-Header-Content-Length is how many bytes of the body are JSON, "
                f"of {len(body)}"
            )
        if not length:  # a raw request: all of it is the one tensor
            raw = msgspec.Raw(pack(RAW_HEAD, memoryview(body)))
            return Heard(self._name, raw, self._version)
        return self._hear(bytes(body[:length]), body)

    def _hear(self, json: bytes | bytearray, body: bytes | bytearray) -> Heard:
        """Return the Ask in the JSON at the beginning of a body."""
        check_nesting(json)
        request = decode_body(json, "json", _decode)
        timeout_s, priority, binary = _USUAL
        if parameters := request.parameters:
            timeout_s, priority = read_parameters(parameters)
            binary = _is_binary(parameters.get("binary_data_output", False))
        head = question_head(request.inputs, request.outputs, is_binary=binary)
        echo = _encode(request.id) if request.id else b""
        raw = msgspec.Raw(pack_in_place(body, len(json), head))
        return Heard(self._name, raw, self._version, timeout_s, priority, echo)

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``."""
        check_tensors(entry)

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        outputs, tail = unpack(output)
        body = b'{"model_name":"%b","model_version":"%b",%b"outputs":%b}' % (
            target.name.encode(),
            target.version.encode(),
            b'"id":%b,' % echo if echo else b"",
            outputs,
        )
        about = (told.request_id.encode(), told.cache_use.encode())
        if not self._coding and not tail:
            return _JSON_HEAD % (len(body), *about), body
        kind, lines = b"application/json", b""
        if b'"binary_data_size":' in outputs:
            kind, lines = b"application/octet-stream", _FRAMING % len(body)
            body += tail
        if self._coding and len(body) <= LARGEST_COMPRESSED_BYTES:
            packer = zlib.compressobj(1, zlib.DEFLATED, WINDOWS[self._coding])
            body = packer.compress(body) + packer.flush()
            lines += b"content-encoding: %b\r\n" % self._coding.encode()
        return _HEAD % (kind, len(body), *about) + lines, body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return error_answer(error, request_id, input_name="instances")


def check_tensors(entry: Entry) -> None:
    """Refuse a request whose target has workers of an older release, which know no tensors.

    Raises:
        Unavailable: They could not read what they would be sent.
    """
    schema = entry.announcement.schema
    if schema is not None and not schema.tensors:
        raise Unavailable(f"the workers of {entry.target} do not know tensors yet")


def read_parameters(parameters: Mapping[str, Any]) -> tuple[float | None, Priority]:
    """Return the timeout, in seconds, and the priority that a request's parameters ask for.

    Raises:
        Malformed: The timeout is none.
        InvalidInput: Another one is not what the protocol says, or asks for what is not offered.
    """
    if parameters.get("sequence_id"):
        raise InvalidInput("sequences are not offered here", where="$.parameters")
    return _timeout_s(parameters.get("timeout", 0)), _priority(parameters.get("priority", 0))


def _length_of(header: bytes | None) -> int | None:
    """Return the length in a header; None without the header, -1 if it holds no number."""
    if header is None:
        return None
    return int(header) if header.isdigit() and len(header) <= LONGEST_LENGTH else -1


def _is_binary(wanted: object) -> bool:
    """Return whether outputs that do not say it themselves are binary."""
    if not isinstance(wanted, bool):
        raise InvalidInput(
            "binary_data_output is true or false", where="$.parameters.binary_data_output"
        )
    return wanted


def _timeout_s(microseconds: object) -> float | None:
    """Return ``timeout``, which is in microseconds, in seconds; None for 0."""
    if type(microseconds) is not int or not 0 <= microseconds <= _LONGEST_TIMEOUT:
        raise Malformed(
            f"timeout is a whole number of microseconds, at most {_LONGEST_TIMEOUT}",
            where="$.parameters.timeout",
        )
    return microseconds / 1e6 if microseconds else None


def _priority(level: object) -> Priority:
    """Return the priority for a level: high for level 1, normal for all others."""
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise InvalidInput("priority is 0, or a level from 1", where="$.parameters.priority")
    return "high" if level == _HIGHEST else "normal"
