"""Arrays in MessagePack, with their dtype and shape; and the number of instances in a value.

An array is extension type 77. Its payload is a head, itself MessagePack, followed immediately by
the array's bytes in C order, little-endian:

    [dtype, [length, …]] bytes        dtype as numpy writes it: "<f4", "|u1"; axis 0 is the batch

In Python with nothing but msgpack:

    msgpack.ExtType(77, msgpack.packb([array.dtype.str, array.shape]) + array.tobytes())

The maps that msgpack-numpy writes hold the same information and are accepted too. This module reads
only the heads: it does not need numpy, and a value of megabytes costs as much as a small one.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Literal, NamedTuple

import msgspec

EXTENSION_CODE = 77
EXTENSION_MARKERS = frozenset((*range(0xC7, 0xCA), *range(0xD4, 0xD9)))
"""The first byte of an extension of any type and size."""

_STRUCT_CODES = {  # numpy's dtype without byte order: code of the struct module
    **{"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q"},
    **{"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f2": "e", "f4": "f", "f8": "d"},
}

_Kind = Literal["number", "text", "bytes", "array", "map", "extension", "other"]

_SIZED: dict[int, tuple[_Kind, int]] = {  # marker: kind, and bytes of its length field
    **{0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4)},
    **{0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4)},
    **{0xCC: ("number", 1), 0xCD: ("number", 2), 0xCE: ("number", 4), 0xCF: ("number", 8)},
    **{0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4)},
    **{0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)},
}
_FIRST_FIXED_EXTENSION, _LAST_FIXED_EXTENSION = 0xD4, 0xD8  # of 1, 2, 4, 8 and 16 bytes
_NOTHING = (0xC0, 0xC2, 0xC3)  # nil, false, true
_MOST_AXES = 64  # as many as numpy takes


class PackedArray(NamedTuple):
    """An array as received: declared dtype and shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class _Reader:
    """Reads the MessagePack values that a head consists of.

    Raises ValueError for any other value, and IndexError at the end of the data.
    """

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw
        self.at = 0

    def begin(self) -> tuple[_Kind, int]:
        """Return the kind of the next value and its length; for a number, its value."""
        marker = self._raw[self.at]
        self.at += 1
        if marker < 0x80:
            return "number", marker
        if marker < 0xC0:
            kind: _Kind = "map" if marker < 0x90 else "array" if marker < 0xA0 else "text"
            return kind, marker & (0x1F if kind == "text" else 0x0F)
        if _FIRST_FIXED_EXTENSION <= marker <= _LAST_FIXED_EXTENSION:
            return "extension", 1 << (marker - _FIRST_FIXED_EXTENSION)
        kind, size = _SIZED.get(marker, ("other", 0))
        if kind == "other" and marker not in _NOTHING:
            raise ValueError("unexpected kind of value in the head")
        return kind, int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes."""
        end = self.at + size
        if end > len(self._raw):
            raise IndexError
        piece, self.at = self._raw[self.at : end], end
        return piece

    def text(self) -> str:
        """Return a string, written as str or as bytes: old libraries do not distinguish them."""
        kind, length = self.begin()
        if kind not in ("text", "bytes"):
            raise ValueError("expected a string")
        return str(self.take(length), "utf-8")

    def shape(self) -> tuple[int, ...]:
        """Return a list of lengths."""
        kind, axes = self.begin()
        if kind != "array" or axes > _MOST_AXES:
            raise ValueError("the shape must be a list of lengths")
        return tuple([self._length() for _ in range(axes)])

    def _length(self) -> int:
        kind, length = self.begin()
        if kind != "number":
            raise ValueError("the shape must be a list of lengths")
        return length


def leading_length(raw: memoryview) -> int | None:
    """Return the number of instances in a MessagePack value, from its first bytes: the length of a
    list, or of axis 0 of an array, or of the first of several in a map. None if it is none of them,
    or is damaged.
    """
    length = _axis_0(raw)
    if length is not None:
        return length
    reader = _Reader(raw)
    try:
        if reader.begin()[0] != "map":
            return None
        reader.text()
    except (ValueError, IndexError):
        return None
    return _axis_0(raw[reader.at :])


def _axis_0(raw: memoryview) -> int | None:
    """Return the length of a list, or of axis 0 of an array."""
    reader = _Reader(raw)
    try:
        kind, length = reader.begin()
        if kind == "array":
            return length
        if kind == "extension" and reader.take(1)[0] == EXTENSION_CODE:
            return _axis_0_of_payload(reader)
        found = _read_map(reader, length) if kind == "map" else None
    except (ValueError, IndexError):
        return None
    return found.shape[0] if found and found.shape else None


def _axis_0_of_payload(reader: _Reader) -> int | None:
    if reader.begin() != ("array", 2):
        return None
    _, dtype_bytes = reader.begin()
    reader.take(dtype_bytes)
    _, axes = reader.begin()
    kind, length = reader.begin()
    return length if axes and kind == "number" else None


def read_packed(raw: memoryview) -> PackedArray | None:
    """Return the array in ``raw``, or None if ``raw`` is some other value.

    Raises:
        ValueError: The array is damaged; the text says how.
    """
    reader = _Reader(raw)
    try:
        kind, length = reader.begin()
        if kind == "extension" and reader.take(1)[0] == EXTENSION_CODE:
            found = read_payload(reader.take(length))
        elif kind == "map":
            found = _read_map(reader, length)
        else:
            return None
    except IndexError:
        raise ValueError("it is truncated") from None
    if reader.at != len(raw):
        raise ValueError("there are extra bytes after it")
    return found


def read_payload(payload: memoryview) -> PackedArray:
    """Return the array in the payload of an extension.

    Raises:
        ValueError: It is damaged; the text says how.
    """
    reader = _Reader(payload)
    try:
        if reader.begin() != ("array", 2):
            raise ValueError("it must begin with [dtype, [length, …]]")
        return PackedArray(reader.text(), reader.shape(), payload[reader.at :])
    except IndexError:
        raise ValueError("it is truncated") from None


def _read_map(reader: _Reader, length: int) -> PackedArray:
    """Read an array as msgpack-numpy writes it; the keys are strings or bytes."""
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    data: memoryview | None = None
    for _ in range(length):
        key = reader.text()
        if key == "type":
            dtype = reader.text()
        elif key == "shape":
            shape = reader.shape()
        elif key in ("nd", "kind", "data"):
            kind, size = reader.begin()
            value = reader.take(size if kind in ("text", "bytes") else 0)
            data = value if key == "data" else data
        else:
            raise ValueError(f"a map that encodes an array has no key {key!r}")
    if dtype is None or shape is None or data is None:
        raise ValueError("a map that encodes an array has nd, type, kind, shape and data")
    return PackedArray(dtype, shape, data)


def to_lists(packed: PackedArray) -> Any:
    """Return the array as nested lists, without numpy.

    Raises:
        ValueError: The bytes do not match dtype and shape, or the dtype is not supported.
    """
    code = _STRUCT_CODES.get(packed.dtype[1:])
    if code is None or packed.dtype[0] not in "<>|":
        raise ValueError(f'not a bool, int, uint or float dtype: {packed.dtype!r}; use "<f4"')
    if 0 in packed.shape[1:]:  # a few bytes could claim any number of empty lists
        raise ValueError(f"instances of shape {packed.shape[1:]} are empty")
    order, count = (">" if packed.dtype[0] == ">" else "<"), math.prod(packed.shape)
    if len(packed.data) != count * struct.calcsize(f"<{code}"):
        raise ValueError(f"{packed.dtype} of shape {packed.shape} is not {len(packed.data)} bytes")
    values: list[Any] = list(struct.unpack(f"{order}{count}{code}", packed.data))
    for axis in range(len(packed.shape) - 1, 0, -1):
        length, rows = packed.shape[axis], math.prod(packed.shape[:axis])
        values = [values[row * length : (row + 1) * length] for row in range(rows)]
    return values if packed.shape else values[0]


def payload_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the head that precedes an array's bytes in the payload of the extension."""
    return msgspec.msgpack.encode((dtype, shape))


def extension_head(payload_bytes: int) -> bytes:
    """Return the MessagePack header of an extension whose payload has ``payload_bytes`` bytes."""
    return b"\xc9" + payload_bytes.to_bytes(4, "big") + bytes([EXTENSION_CODE])
