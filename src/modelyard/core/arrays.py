"""The contract of models that take or return ``Annotated[np.ndarray, Tensor(…)]``.

In JSON an array is nested lists. In MessagePack it is nested lists, or bytes with their dtype and
shape (``core/packed.py``), which need no parsing. Bytes without dtype and shape are refused, since
numbers of the wrong dtype could not be detected.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from modelyard.core.errors import InvalidInput
from modelyard.core.lists import ContractError, Instances, Lists, UnfitPredictions
from modelyard.core.messages import Form
from modelyard.core.packed import (
    EXTENSION_CODE,
    PackedArray,
    extension_head,
    payload_head,
    read_packed,
    read_payload,
)

if TYPE_CHECKING:
    import numpy as np

_DTYPE = re.compile(r"([<>|=]?[biuf]\d{1,2}|bool|u?int(8|16|32|64)|float(16|32|64))\Z")
_BYTES_MARKERS = (0xC4, 0xC5, 0xC6)  # MessagePack's bin 8, 16 and 32


class Tensor(msgspec.Struct, frozen=True):
    """Declares a numpy array: ``Annotated[np.ndarray, Tensor("float32", (3, 224, 224))]``.

    ``shape`` is that of one instance. The arrays that ``predict`` takes and returns have one more
    axis: axis 0, the batch. ``name`` is that of the tensor in protocols that name them, as V2; a
    field of ``Columns`` has that of the field.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    name: str = ""


class Arrays:
    """A numpy array whose axis 0 is the batch: requests are joined along it, and split again."""

    is_array = True

    def __init__(self, tensor: Tensor) -> None:
        import numpy as np

        if not all(0 < length < 1 << 31 for length in tensor.shape):
            raise ContractError(f"Tensor(…, {tensor.shape}): write positive lengths")
        self._np = np
        self._shape = tensor.shape
        self._dtype = np.dtype(tensor.dtype)
        self._wire_dtype = self._dtype.newbyteorder("<")
        self._lists = Lists(list[_element(tensor, self._dtype)])  # type: ignore[misc]
        self.annotation = self._lists.annotation

    def decode(self, raw: bytes | memoryview, form: Form) -> Instances:
        """Return the array in ``raw``; see Side."""
        if form == "msgpack":
            if raw and raw[0] in _BYTES_MARKERS:
                raise InvalidInput(
                    "these bytes have neither dtype nor shape: send "
                    "modelyard.arrays.pack_array(array), which is MessagePack's extension type "
                    f"{EXTENSION_CODE} with [dtype, shape] before the bytes; {self._expected()}",
                    where="$.input_data",
                )
            try:
                packed = read_packed(memoryview(raw))
            except ValueError as error:
                msgspec.msgpack.decode(raw, type=msgspec.Raw)  # raises if it is malformed
                raise ValueError(f"not an array: {error}; {self._expected()}") from None
            if packed is not None:
                return self._checked(packed)
        return self.of_rows(self._lists.decode(raw, form))

    def of_rows(self, rows: Instances) -> np.ndarray[Any, Any]:
        """Return an array of instances that are nested lists."""
        return self._np.asarray(rows, dtype=self._dtype)

    def _expected(self) -> str:
        shape = ", ".join(map(str, ("n", *self._shape)))
        return f"the model takes {self._dtype} of shape ({shape})"

    def _checked(self, packed: PackedArray) -> np.ndarray[Any, Any]:
        array = to_array(packed)
        if array.shape[1:] != self._shape or not array.shape:
            is_alone = array.shape == self._shape
            hint = "; axis 0 is the batch: send array[None]" if is_alone else ""
            raise ValueError(f"the array has shape {array.shape}, {self._expected()}{hint}")
        if not self._np.can_cast(array.dtype, self._dtype, "safe"):
            raise ValueError(
                f"the array is {array.dtype}, {self._expected()}, which cannot represent every "
                f'{array.dtype}: send array.astype("{self._dtype}") if no precision is lost'
            )
        return array

    def encode(self, value: Any, form: Form, *, is_checked: bool) -> bytes:
        """Encode predictions that ``check`` has accepted; see Side."""
        if form != "msgpack":
            return self._lists.encode(self.as_declared(value), form, is_checked=False)
        array = self._np.ascontiguousarray(value, dtype=self._wire_dtype)
        head = payload_head(array.dtype.str, array.shape)
        start = extension_head(len(head) + array.nbytes)
        return b"".join((start, head, array.reshape(-1).view("uint8").data))

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Concatenate along axis 0."""
        arrays = typing.cast("Sequence[np.ndarray[Any, Any]]", parts)
        if len(arrays) > 1:
            return self._np.concatenate(arrays, dtype=self._dtype)
        # A model may write into it, or pass it to code that needs aligned memory.
        is_usable = arrays[0].flags.behaved and arrays[0].dtype == self._dtype
        return arrays[0] if is_usable else arrays[0].astype(self._dtype)

    def check(self, value: Any, *, count: int) -> str | None:
        """Say what is wrong with ``value`` as ``count`` predictions, or None; see Side."""
        shape = getattr(value, "shape", None)
        expected = (count, *self._shape)
        if shape is None:
            return f"returned {type(value).__name__} where a numpy array is expected"
        if not self._np.can_cast(value.dtype, self._dtype, "same_kind"):
            raise UnfitPredictions(f"returned {value.dtype} where {self._dtype} is expected")
        if shape != expected:
            return f"returned shape {shape} where {expected} is expected"
        if value.dtype != self._dtype:
            self._check_range(value)
        return None

    def as_declared(self, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return predictions that ``check`` has accepted, rounded to the declared dtype."""
        return value if value.dtype == self._dtype else self._np.asarray(value, dtype=self._dtype)

    def _check_range(self, value: np.ndarray[Any, Any]) -> None:
        """Raise UnfitPredictions if a number is out of the declared dtype's range."""
        np = self._np
        if np.can_cast(value.dtype, self._dtype, "safe"):
            return
        if self._dtype.kind in "iu":
            range_ = np.iinfo(self._dtype)
            found = next((n for n in (value.min(), value.max()) if _is_beyond(n, range_)), None)
        else:
            with np.errstate(over="ignore"):
                is_lost = np.isinf(np.asarray(value, dtype=self._dtype)) & np.isfinite(value)
            found = value[is_lost][0] if is_lost.any() else None
        if found is not None:
            raise UnfitPredictions(
                f"returned {found} of {value.dtype}, which {self._dtype} cannot represent"
            )


def _is_beyond(number: Any, range_: np.iinfo[Any]) -> bool:
    return not range_.min <= int(number) <= range_.max


def to_array(packed: PackedArray) -> np.ndarray[Any, Any]:
    """Return a view of the bytes as an array: read-only, and maybe not aligned.

    Raises:
        ValueError: The bytes do not match dtype and shape.
    """
    import numpy as np

    if not _DTYPE.match(packed.dtype):
        raise ValueError(f'not a bool, int, uint or float dtype: {packed.dtype!r}; use "<f4"')
    try:
        dtype = np.dtype(packed.dtype)
    except TypeError as error:
        raise ValueError(str(error)) from None
    expected = math.prod(packed.shape) * dtype.itemsize
    if len(packed.data) != expected:
        raise ValueError(
            f"{dtype} of shape {packed.shape} takes {expected} bytes, not {len(packed.data)}"
        )
    array = np.frombuffer(packed.data, dtype=dtype)
    if dtype.kind == "b" and array.view("uint8").max(initial=0) > 1:
        raise ValueError("the bytes of a bool array must be 0 or 1")
    return array.reshape(packed.shape)


def payload_to_array(payload: memoryview) -> np.ndarray[Any, Any]:
    """Return the array in the payload of an extension.

    Raises:
        ValueError: It is damaged.
    """
    return to_array(read_payload(payload))


def _element(tensor: Tensor, dtype: np.dtype[Any]) -> Any:
    """Return the type of one instance: nested lists of exact lengths, numbers within range."""
    import numpy as np

    element: Any
    if dtype.kind == "b":
        element = bool
    elif dtype.kind in "iu":
        whole = np.iinfo(dtype)
        if whole.max > (1 << 63) - 1:  # larger than a bound of msgspec may be
            element = Annotated[int, msgspec.Meta(ge=0)]
        else:
            element = Annotated[int, msgspec.Meta(ge=int(whole.min), le=int(whole.max))]
    elif dtype.kind == "f" and dtype.itemsize <= 8:
        largest = float(np.finfo(dtype).max)
        element = Annotated[float, msgspec.Meta(ge=-largest, le=largest)]
    else:
        raise ContractError(f"Tensor({tensor.dtype!r}): write a bool, int, uint or float dtype")
    for length in reversed(tensor.shape):
        element = Annotated[list[element], msgspec.Meta(min_length=length, max_length=length)]
    return element
