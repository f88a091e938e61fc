"""Requests and answers as bytes: JSON, or MessagePack where JSON would lose or waste something.

Instances go as JSON, but as MessagePack if they are

- an array, or a list of arrays of one shape: its bytes, with dtype and shape (``arrays.py``);
- bytes, which JSON would write in base64;
- floats with a NaN or an infinity, which JSON cannot say.

The gateway answers in the form in which it was asked. Structs are msgspec's, dataclasses and attrs
classes are written by field, and an array inside an instance is written as nested lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from .arrays import as_array, is_packable, pack, stack, unpack
from .errors import UnexpectedAnswer
from .exchange import Reply

Form: TypeAlias = Literal["json", "msgpack"]
Priority: TypeAlias = Literal["high", "normal", "low"]
T = TypeVar("T")

MEDIA_TYPES: dict[Form, str] = {"json": "application/json", "msgpack": "application/msgpack"}


class Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of ``POST /predict``."""

    model_name: str
    model_version: str | None = None
    timeout_s: float | None = None
    priority: Priority | None = None
    input_data: Any


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway said to a request.

    Attributes:
        predictions: One per instance, in their order: a list, or an array with axis 0 the batch.
        model: The model's name.
        version: The version that answered.
        request_id: What the gateway's logs call the request.
        cache: ``hit``, ``miss``, ``coalesced`` with the same request in progress, or ``bypass``.
    """

    predictions: Any
    model: str
    version: str
    request_id: str | None
    cache: str | None


class _Answered(msgspec.Struct):
    """The body of its answer."""

    model_name: str
    model_version: str
    prediction: Any


def _plain(value: Any) -> Any:
    """Write what msgspec does not know: numpy's scalars, and arrays inside an instance."""
    array = as_array(value)
    if array is not None:
        return array.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON or MessagePack")


to_json = msgspec.json.Encoder(enc_hook=_plain).encode
to_msgpack = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_read_json = msgspec.json.Decoder(_Answered).decode
_read_msgpack = msgspec.msgpack.Decoder(_Answered, ext_hook=unpack).decode


class Body:
    """The body of a request. Each try writes it anew, since less time is left then."""

    def __init__(
        self,
        instances: Any,
        *,
        model: str,
        version: str | None,
        priority: Priority | None,
    ) -> None:
        array = as_array(instances)
        if array is None:
            array = stack(instances)
        self._form: Form = "json"
        value = instances if array is None else array
        if array is not None and is_packable(array):
            value, self._form = pack(array), "msgpack"
        elif isinstance(instances, list | tuple) and instances and _is_bytes(instances[0]):
            self._form = "msgpack"
        self._envelope = Envelope(
            model_name=model, model_version=version, priority=priority, input_data=value
        )

    def write(self, timeout_s: float | None) -> tuple[str, bytes]:
        """Return media type and body.

        Raises:
            TypeError: Something in it has no form.
            OverflowError: A whole number has more bits than the 64 of MessagePack.
        """
        self._envelope.timeout_s = timeout_s
        if self._form == "json":
            body = to_json(self._envelope)
            # A null is what the encoder makes of a NaN; or what was meant.
            if b"null" in body and _has_no_form_in_json(self._envelope.input_data):
                self._form = "msgpack"
        if self._form == "msgpack":
            body = to_msgpack(self._envelope)
        return MEDIA_TYPES[self._form], body


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


def _has_no_form_in_json(value: Any) -> bool:
    """Return whether there is a NaN or an infinity; called only if the JSON contains a null."""
    left = [msgspec.to_builtins(value, enc_hook=_plain)]
    while left:
        found = left.pop()
        if isinstance(found, float) and not math.isfinite(found):
            return True
        if isinstance(found, dict):
            left.extend(found.values())
        elif isinstance(found, list | tuple):
            left.extend(found)
    return False


def read_answer(reply: Reply) -> Answer:
    """Return the answer in a 200 from ``POST /predict``.

    Raises:
        UnexpectedAnswer: It is none of a gateway.
    """
    is_packed = reply.media_type == MEDIA_TYPES["msgpack"]
    answered = read(reply, _read_msgpack if is_packed else _read_json)
    return Answer(
        predictions=answered.prediction,
        model=answered.model_name,
        version=answered.model_version,
        request_id=reply.request_id,
        cache=reply.cache,
    )


def read(reply: Reply, decode: Callable[[bytes], T]) -> T:
    """Decode the body of an answer.

    Raises:
        UnexpectedAnswer: It is none of a gateway.
    """
    try:
        return decode(reply.body)
    except (msgspec.DecodeError, ValueError) as error:
        raise UnexpectedAnswer(
            f"what answers is no gateway of Modelyard: {error}",
            status=reply.status,
            request_id=reply.request_id,
        ) from error
