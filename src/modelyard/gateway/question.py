"""What a request asks: from headers and body to what dispatch is asked."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.messages import Form
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.body import SEARCHED_BYTES, check_nesting
from modelyard.gateway.types import Headers

LONGEST_REQUEST_ID = 128

MEDIA_TYPES: dict[Form, bytes] = {"json": b"application/json", "msgpack": b"application/msgpack"}
_FORMS: dict[bytes, Form] = {
    MEDIA_TYPES["json"]: "json",
    MEDIA_TYPES["msgpack"]: "msgpack",
    b"application/vnd.msgpack": "msgpack",  # as registered at IANA
    b"application/x-msgpack": "msgpack",
}


class Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body of a request; ``input_data`` stays raw until the runner reads it."""

    model_name: str
    input_data: msgspec.Raw
    model_version: str | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"


_decode_envelope = msgspec.json.Decoder(Envelope).decode
_unpack_envelope = msgspec.msgpack.Decoder(Envelope).decode


def read_question(body: bytes | bytearray, form: Form, *, request_id: str, is_bypass: bool) -> Ask:
    """Decode a request's body.

    Raises:
        Malformed: It is not of this form, or is nested too deep.
        InvalidInput: A field is missing, unknown or of the wrong type; says which.
    """
    envelope = _read_envelope(body, form)
    return Ask(
        request_id,
        envelope.model_name,
        envelope.model_version,
        memoryview(envelope.input_data),
        envelope.timeout_s,
        envelope.priority,
        is_bypass,
        form,
    )


def _read_envelope(body: bytes | bytearray, form: Form) -> Envelope:
    is_json = form == "json"
    if is_json:
        check_nesting(body)
    try:
        return _decode_envelope(body) if is_json else _unpack_envelope(body)
    except msgspec.ValidationError as error:
        invalid = error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    try:
        if is_json:
            # A number or string that no type could hold is malformed. In large ones nobody looks.
            msgspec.json.decode(body, type=Any if len(body) <= SEARCHED_BYTES else msgspec.Raw)
        else:
            msgspec.msgpack.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    problem, _, path = str(invalid).rpartition(" - at ")
    raise InvalidInput(problem or path, where=path.strip("`") if problem else "$")


def form_of(headers: Headers) -> Form | None:
    """Give the form of a body, whatever parameters its content type has; None for another."""
    content_type = headers.get(b"content-type", b"")
    return _FORMS.get(content_type.partition(b";")[0].strip().lower())


def wants_fresh(headers: Headers) -> bool:
    """Tell whether the answer must not come from a cache."""
    return b"no-cache" in headers.get(b"cache-control", b"").lower()


_id_prefix = os.urandom(6).hex()
_id_numbers = count(1)


def new_request_id() -> str:
    """Give an id that no other request has, at an eighth of a UUID's cost."""
    return f"{_id_prefix}-{next(_id_numbers):x}"


def given_request_id(headers: Headers) -> str | None:
    """Give the client's own request id, if it sent a usable one."""
    given = headers.get(b"x-request-id")
    if given and len(given) <= LONGEST_REQUEST_ID and given.isascii():
        text = given.decode("ascii")
        if text.isprintable():
            return text
    return None


def request_id_of(headers: Headers) -> str:
    """Give the client's own request id, else a new one."""
    return given_request_id(headers) or new_request_id()
