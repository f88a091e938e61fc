"""Predictions by KServe's V1: ``POST /v1/models/NAME[/versions/V]:predict``.

``instances`` are the ``input_data`` of ``/predict``, and ``predictions`` its ``prediction``.
The protocol's other calls are pages (``v1_pages.py``).
"""

from __future__ import annotations

import re

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.answer import error_answer
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.heads import Head
from modelyard.gateway.nesting import check_nesting
from modelyard.gateway.question import INLINE_PARSE_BYTES, decode_body

_PATH = re.compile(rb"/v1/models/([^/:]+)(?:/versions/([^/:]+))?:predict")
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)


class _Request(msgspec.Struct, gc=False):
    """A request; ``parameters`` and ``signature_name`` may stand in it and mean nothing here."""

    instances: msgspec.Raw


_decode = msgspec.json.Decoder(_Request).decode


def open_v1(head: Head) -> V1Door | None:
    """Return the door of a request; None if it does not ask for predictions."""
    found = _PATH.fullmatch(head.path)
    if found is None:
        return None
    name, version = found[1].decode("utf-8", "replace"), found[2]
    return V1Door(name, None if version is None else version.decode("utf-8", "replace"))


class V1Door:
    """Translates predictions.

    Args:
        name: Of the model.
        version: None for the one that the model answers with by default.
    """

    form: Form = "json"

    def __init__(self, name: str, version: str | None) -> None:
        self._name = name
        self._version = version

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return body_bytes <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        check_nesting(body)
        request = decode_body(body, "json", _decode)
        return Heard(self._name, msgspec.Raw(bytes(request.instances)), self._version)

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``: whoever answers ``/predict`` answers this."""

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        body = b'{"predictions":%b}' % output
        return _HEAD % (len(body), told.request_id.encode(), told.cache_use.encode()), body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return error_answer(error, request_id, input_name="instances")
