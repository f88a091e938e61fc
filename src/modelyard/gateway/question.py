"""What a request asks: from headers and body to an ``Ask``."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import msgspec

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.messages import Form
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.nesting import SEARCHED_BYTES, check_nesting

LONGEST_REQUEST_ID = 128

MEDIA_TYPES: dict[Form, bytes] = {"json": b"application/json", "msgpack": b"application/msgpack"}
_FORMS: dict[bytes, Form] = {
    MEDIA_TYPES["json"]: "json",
    MEDIA_TYPES["msgpack"]: "msgpack",
    b"application/vnd.msgpack": "msgpack",  # as registered at IANA
    b"application/x-msgpack": "msgpack",
}

_decode_ask = msgspec.json.Decoder(Ask).decode
_unpack_ask = msgspec.msgpack.Decoder(Ask).decode


def read_ask(body: bytes | bytearray, form: Form) -> Ask:
    """Decode a request's body; its ``input_data`` stays as it is.

    Raises:
        Malformed: It is not of this form, or is nested too deep.
        InvalidInput: A field is missing, unknown or of the wrong type; says which.
    """
    is_json = form == "json"
    if is_json:
        check_nesting(body)
    try:
        return _decode_ask(body) if is_json else _unpack_ask(body)
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


def form_of(content_type: bytes) -> Form | None:
    """Give the form of a body, whatever parameters its content type has; None for another."""
    return _FORMS.get(content_type.partition(b";")[0].strip().lower())


_id_prefix = os.urandom(6).hex()
_id_numbers = count(1)


def new_request_id() -> str:
    """Give an id that no other request has, at an eighth of a UUID's cost."""
    return f"{_id_prefix}-{next(_id_numbers):x}"


def request_id_of(given: bytes | None) -> str:
    """Give the client's own request id if it sent a usable one, else a new one."""
    if given and len(given) <= LONGEST_REQUEST_ID and given.isascii():
        text = given.decode("ascii")
        if text.isprintable():
            return text
    return new_request_id()
