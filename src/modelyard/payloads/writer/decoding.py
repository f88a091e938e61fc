"""From the bytes of a request or an answer, in any form, to what JSON can hold."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec

from modelyard.core.datatypes import DATATYPES
from modelyard.core.errors import RequestError
from modelyard.core.messages import Form
from modelyard.core.packed import EXTENSION_CODE, PackedArray, read_packed, read_payload, to_lists
from modelyard.core.tensor_data import nest, values_of
from modelyard.core.v2 import GivenTensor, SentTensor, pack, read_question, unpack


class UnreadableError(Exception):
    """The bytes are not what their form says."""


class Rows(NamedTuple):
    """The instances of a request, or the predictions of an answer: the same in every form.

    ``values``: a list, unless the model takes or gives something else. Columns and tensors have
    become rows: plain ones where there is one tensor, which ``name`` says, else dicts.
    """

    values: Any
    name: str = ""


def decode_input(raw: bytes, form: Form) -> Rows:
    """Return the instances of a request.

    Raises:
        UnreadableError: See there.
    """
    try:
        if form == "v2":
            return _rows_of(read_question(raw)[1])
        if form == "raw":
            return Rows([_file(part) for part in _unpack(raw)])
        return Rows(_transposed(_decode(raw, form)))
    except (RequestError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise UnreadableError(str(error)) from error


def decode_output(raw: bytes, form: Form) -> Rows:
    """Return the predictions of an answer; see ``decode_input``.

    Raises:
        UnreadableError: See there.
    """
    try:
        if form == "v2":
            head, tail = unpack(raw)
            sent = msgspec.json.decode(head, type=list[SentTensor])
            whole = pack(msgspec.json.encode([sent]), tail)
            return _rows_of(read_question(whole)[1])
        return Rows(_transposed(_decode(raw, "json" if form == "raw" else form)))
    except (RequestError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise UnreadableError(str(error)) from error


def _rows_of(tensors: list[GivenTensor]) -> Rows:
    if len(tensors) == 1:
        return Rows(_tensor(tensors[0]), tensors[0].name)
    return Rows(_transposed({tensor.name: _tensor(tensor) for tensor in tensors}))


def _transposed(value: Any) -> Any:
    """Return columns as rows, and anything else as it is."""
    if not isinstance(value, dict) or not value:
        return value
    columns = list(value.values())
    if not all(isinstance(column, list) for column in columns):
        return value
    if len({len(column) for column in columns}) > 1:
        raise ValueError("columns of different lengths")
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _decode(raw: bytes, form: Form) -> Any:
    if form == "json":
        return msgspec.json.decode(raw)
    packed = read_packed(memoryview(raw))
    return to_lists(packed) if packed is not None else _plain(_unpack(raw))


def _unpack(raw: bytes) -> Any:
    return _decoder.decode(raw)


def _extension(code: int, payload: memoryview) -> Any:
    if code != EXTENSION_CODE:
        raise ValueError(f"extension type {code}")
    return read_payload(payload)


_decoder = msgspec.msgpack.Decoder(ext_hook=_extension, strict=False)


def _plain(value: Any) -> Any:
    """Return a value of MessagePack as JSON can hold it."""
    if isinstance(value, PackedArray):
        return to_lists(value)
    if isinstance(value, bytes):
        return _file(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if {"nd", "type", "shape", "data"} <= {_text(key) for key in value}:  # msgpack-numpy's
            found = read_packed(memoryview(msgspec.msgpack.encode(value)))
            return None if found is None else to_lists(found)
        return {_text(key): _plain(item) for key, item in value.items()}
    return value


def _text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _file(content: bytes) -> dict[str, Any]:
    """Return what is kept of bytes: how many, and which."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _tensor(given: GivenTensor) -> Any:
    datatype, shape = DATATYPES.get(given.datatype), given.shape
    if shape is None or datatype is None:
        return _file(bytes(given.data)) if given.is_binary else msgspec.json.decode(given.data)
    values = [
        _bytes(value) if isinstance(value, bytes) else value
        for value in values_of(given, datatype, shape)
    ]
    return nest(values, shape[1:]) if shape else values


def _bytes(element: bytes) -> Any:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return _file(element)
