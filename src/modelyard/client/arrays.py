"""Arrays in MessagePack: extension type 77, the same as the gateway's.

Its payload is ``[dtype, [length, …]]`` in MessagePack and at once after it the array's bytes, in C
order and little-endian. Axis 0 is the batch. numpy is never imported here unless it is installed
and an array came: who has none gets nested lists.
"""

from __future__ import annotations

import math
import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np

EXTENSION_CODE = 77
_PACKABLE_KINDS = "biuf"  # bool, int, uint, float
_CODES = {  # numpy's name: that of the struct module
    **{"|b1": "?", "|i1": "b", "|u1": "B", "<i2": "h", "<u2": "H", "<i4": "i", "<u4": "I"},
    **{"<i8": "q", "<u8": "Q", "<f2": "e", "<f4": "f", "<f8": "d"},
}
_PAIR, _TEXT_OF_3, _LIST = 0x92, 0xA3, 0x90  # how MessagePack marks them
_MORE_BYTES = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # of a number that is 128 or more


def as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """Return ``value`` as an array if it is one or can be converted to one, else None.

    That is numpy's own protocol, so tensors in main memory and data frames are arrays as well.
    """
    to_array = getattr(value, "__array__", None)
    if to_array is None or isinstance(value, type):
        return None
    array: np.ndarray[Any, Any] = to_array()
    return array


def stack(values: Any) -> np.ndarray[Any, Any] | None:
    """Put a list of arrays of one shape and dtype into one along a new axis 0, else None."""
    first = as_array(values[0]) if isinstance(values, list | tuple) and values else None
    if first is None or first.ndim == 0:
        return None
    arrays = []
    for value in values:
        array = as_array(value)
        if array is None or array.shape != first.shape or array.dtype != first.dtype:
            return None
        arrays.append(array)
    import numpy as np

    return np.stack(arrays)


def is_packable(array: np.ndarray[Any, Any]) -> bool:
    """Return whether the array can be sent as its bytes: not one of strings, objects or dates."""
    dtype = array.dtype
    return array.ndim > 0 and dtype.kind in _PACKABLE_KINDS and dtype.itemsize <= 8


def pack(array: np.ndarray[Any, Any]) -> msgspec.msgpack.Ext:
    """Return the extension that holds ``array``."""
    wire = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    head = msgspec.msgpack.encode((wire.dtype.str, wire.shape))
    return msgspec.msgpack.Ext(EXTENSION_CODE, b"".join((head, wire.reshape(-1).view("u1").data)))


def unpack(code: int, payload: memoryview) -> Any:
    """Return the content of an extension in an answer: an array, or without numpy nested lists.

    Raises:
        ValueError: It is not ours, or is damaged.
    """
    if code != EXTENSION_CODE:
        raise ValueError(f"extension type {code} is not known")
    dtype, shape, data = _split(payload)
    if find_spec("numpy") is None:
        return _as_lists(dtype, shape, data)
    import numpy as np

    # A copy: the answer's own bytes are read-only, and may not be aligned.
    return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape).copy()


def _split(payload: memoryview) -> tuple[str, tuple[int, ...], memoryview]:
    """Take the head off: nothing in MessagePack says how long it is."""
    try:
        if payload[0] != _PAIR or payload[1] != _TEXT_OF_3 or payload[5] & 0xF0 != _LIST:
            raise ValueError("an array begins with [dtype, [length, …]]")
        at = 6
        for _ in range(payload[5] & 0x0F):
            at += 1 + _MORE_BYTES.get(payload[at], 0)
    except IndexError:
        raise ValueError("an array ends too early") from None
    dtype, shape = msgspec.msgpack.decode(payload[:at], type=tuple[str, tuple[int, ...]])
    data = payload[at:]
    expected = math.prod(shape) * int(dtype[2:])
    if dtype not in _CODES or len(data) != expected:
        raise ValueError(f"{len(data)} bytes are no {dtype} of shape {shape}")
    return dtype, shape, data


def _as_lists(dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    values: list[Any] = list(struct.unpack(f"<{math.prod(shape)}{_CODES[dtype]}", data))
    for axis in range(len(shape) - 1, 0, -1):
        length, rows = shape[axis], math.prod(shape[:axis])
        values = [values[row * length : (row + 1) * length] for row in range(rows)]
    return values if shape else values[0]
