"""Decodes headers and body of a prediction into an ``Ask``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.choices import split_error, with_choices
from modelyard.core.errors import InvalidInput, Malformed, RequestError
from modelyard.core.messages import Form
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.nesting import SEARCHED_BYTES, check_nesting

T = TypeVar("T")

INLINE_PARSE_BYTES = 256 * 1024  # parsing more than this would block the loop noticeably
LONGEST_REQUEST_ID = 128
TIMEOUT = "$.timeout_s"

MEDIA_TYPES: dict[Form, bytes] = {
    "json": b"application/json",
    "msgpack": b"application/msgpack",
    "raw": b"application/json",
    "v2": b"application/octet-stream",
}
"""Content types of answers, by the form of the request."""

_ADDRESS = re.compile(rb"/models/([^/]+)(?:/versions/([^/]+))?/predict")
_FORMS: dict[bytes, Form] = {
    MEDIA_TYPES["json"]: "json",
    MEDIA_TYPES["msgpack"]: "msgpack",
    b"application/vnd.msgpack": "msgpack",  # as registered at IANA
    b"application/x-msgpack": "msgpack",
}


class _Addressed(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body of a request whose URL names the model. The body may repeat the name."""

    input_data: msgspec.Raw
    model_name: str | None = None
    model_version: str | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"


_UNKNOWN = "Object contains unknown field"
_decode_ask = msgspec.json.Decoder(Ask).decode
_unpack_ask = msgspec.msgpack.Decoder(Ask).decode
_decode_addressed = msgspec.json.Decoder(_Addressed).decode
_unpack_addressed = msgspec.msgpack.Decoder(_Addressed).decode


def address_of(path: bytes) -> tuple[str, str | None] | None:
    """Return the model and maybe the version in the path of a prediction; None for other paths."""
    found = _ADDRESS.fullmatch(path)
    if found is None:
        return None
    name, version = found[1].decode("utf-8", "replace"), found[2]
    return name, None if version is None else version.decode("utf-8", "replace")


def read_ask(
    body: bytes | bytearray, form: Form, *, name: str | None = None, version: str | None = None
) -> Ask:
    """Decode a request's body; its ``input_data`` stays as it is.

    ``name`` and ``version``: from the request's URL.

    Raises:
        Malformed: It is not valid in this form, or is nested too deep; or see ``refusal_of``.
        InvalidInput: A field is missing, unknown or of the wrong type; the text names it.
    """
    if form == "json":
        check_nesting(body)
    if name is None:
        return decode_body(body, form, _decode_ask if form == "json" else _unpack_ask, kind=Ask)
    read = _decode_addressed if form == "json" else _unpack_addressed
    asked = decode_body(body, form, read, kind=_Addressed)
    for field, said, meant in (
        ("model_name", asked.model_name, name),
        ("model_version", asked.model_version, version),
    ):
        if said is not None and meant is not None and said != meant:
            raise InvalidInput(f"the URL names {meant!r}", where=f"$.{field}")
    chosen = version if version is not None else asked.model_version
    return Ask(name, asked.input_data, chosen, asked.timeout_s, asked.priority)


def decode_body(
    body: bytes | bytearray,
    form: Form,
    read: Callable[[bytes | bytearray], T],
    *,
    kind: type[msgspec.Struct] | None = None,
) -> T:
    """Decode a body, or say what is wrong with it; ``kind``: see ``refusal_of``.

    Raises:
        Malformed, InvalidInput: See ``read_ask``.
    """
    is_json = form == "json"
    try:
        return read(body)
    except msgspec.ValidationError as error:
        invalid = error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    try:
        if is_json:
            # A value that no type can represent is malformed; large bodies are not checked for it.
            msgspec.json.decode(body, type=Any if len(body) <= SEARCHED_BYTES else msgspec.Raw)
        else:
            msgspec.msgpack.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    raise refusal_of(invalid, kind)


def refusal_of(
    error: msgspec.ValidationError, kind: type[msgspec.Struct] | None = None
) -> RequestError:
    """Return the refusal of a request that has other fields, or other values, than it may. It names
    those of ``kind``, if that is what was decoded.

    A timeout is malformed, as is one that is out of range: nothing of it is the model's.
    """
    problem, place = split_error(error)
    where = place or "$"
    if kind is not None and where == "$" and problem.startswith(_UNKNOWN):
        problem += f"; there are {', '.join(kind.__struct_encode_fields__)}"
    elif kind is not None:
        problem = with_choices(problem, where, kind)
    return (Malformed if where == TIMEOUT else InvalidInput)(problem, where=where)


def form_of(content_type: bytes) -> Form | None:
    """Return the form for a content type, ignoring its parameters; None if not supported."""
    return _FORMS.get(content_type.partition(b";")[0].strip().lower())


_id_prefix = os.urandom(6).hex()
_id_numbers = count(1)


def new_request_id() -> str:
    """Return a unique request id, at an eighth of the cost of a UUID."""
    return f"{_id_prefix}-{next(_id_numbers):x}"


def request_id_of(given: bytes | None) -> str:
    """Return the client's own request id if it sent a valid one, else a new one."""
    if given and len(given) <= LONGEST_REQUEST_ID and given.isascii():
        text = given.decode("ascii")
        if text.isprintable():
            return text
    return new_request_id()
