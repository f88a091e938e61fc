"""Numpy arrays in MessagePack, for clients: each keeps its dtype and shape.

    body = {"model_name": "vision", "input_data": images}
    request = msgspec.msgpack.encode(body, enc_hook=pack_array)
    answer = msgspec.msgpack.decode(response, ext_hook=ext_hook)

With msgpack instead of msgspec, ``msgpack.packb(body, default=…)`` takes ``lambda array:
msgpack.ExtType(EXTENSION_CODE, payload_of(array))``, and ``msgpack.unpackb`` takes ``ext_hook``.
The layout, for other languages, is in ``modelyard.core.packed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.core.arrays import payload_to_array
from modelyard.core.packed import EXTENSION_CODE, payload_head

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EXTENSION_CODE", "ext_hook", "pack_array", "payload_of"]


def pack_array(array: Any) -> Any:
    """Return what MessagePack says for a numpy array; for a numpy scalar, the number.

    Raises:
        NotImplementedError: It is neither, or holds something other than numbers or bools.
    """
    if not hasattr(array, "dtype") or not hasattr(array, "tobytes"):
        raise NotImplementedError(f"{type(array).__name__} is no numpy array")
    if array.ndim == 0:
        return array.item()
    return msgspec.msgpack.Ext(EXTENSION_CODE, payload_of(array))


def payload_of(array: np.ndarray[Any, Any]) -> bytes:
    """Return the payload of the extension: dtype, shape, bytes in C order, little-endian.

    Raises:
        NotImplementedError: It holds something other than numbers or bools.
    """
    import numpy as np

    if array.dtype.kind not in "biuf":
        raise NotImplementedError(f"an array of {array.dtype} has no form in MessagePack")
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    head = payload_head(plain.dtype.str, plain.shape)
    return b"".join((head, plain.reshape(-1).view("uint8").data))


def ext_hook(code: int, payload: bytes | memoryview) -> np.ndarray[Any, Any]:
    """Return the array of an extension, read-only, over the bytes of the message.

    Raises:
        ValueError: It is another extension, or is damaged.
    """
    if code != EXTENSION_CODE:
        raise ValueError(f"extension type {code} is no array; those are {EXTENSION_CODE}")
    return payload_to_array(memoryview(payload))
