"""What is in a tensor: from JSON or bytes to Python's values, row-major, and back.

Needs no numpy: a model of lists may be served without it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec

from modelyard.core.choices import split_error, with_choices
from modelyard.core.datatypes import DATATYPES, FP16, INT64, Datatype
from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.lists import UnfitPredictions, to_json
from modelyard.core.v2 import GivenTensor, Wanted

MOST_AXES = 32
_LENGTH = struct.Struct("<I")  # before each element of BYTES
_LARGEST_FLOATS = {2: 65504.0, 4: (2 - 2**-23) * 2.0**127}
_LARGEST_UINT64 = (1 << 64) - 1
_SPACE = b" \t\r\n"


class MadeTensor(NamedTuple):
    """An output before it is written. ``values``: row-major; a list, or an array with its bytes
    little-endian. ``json``: these as JSON, where somebody has written it already.
    """

    datatype: Datatype
    shape: tuple[int, ...]
    values: Any
    json: bytes = b""


def values_of(given: GivenTensor, datatype: Datatype, shape: tuple[int, ...]) -> Sequence[Any]:
    """Return the values of a tensor. Those of BYTES are strings if they came as JSON, else bytes.

    Raises:
        InvalidInput: They are not what datatype and shape say.
    """
    if given.is_binary:
        return _from_bytes(given, datatype, math.prod(shape))
    if datatype is FP16:
        raise InvalidInput(
            "FP16 has no form in JSON: send it as binary data (binary_data_size)",
            where=f"{given.place}.data",
        )
    return _from_json(given, datatype, shape)


def check_size(given: GivenTensor, datatype: Datatype, shape: tuple[int, ...]) -> None:
    """Raise InvalidInput if a binary tensor has more or fewer bytes than it says."""
    expected = math.prod(shape) * datatype.size
    if len(given.data) != expected:
        raise InvalidInput(
            f"{datatype.name} of shape {list(shape)} is {expected} bytes, "
            f"there are {len(given.data)}",
            where=given.place,
        )


def _from_bytes(given: GivenTensor, datatype: Datatype, count: int) -> Sequence[Any]:
    if datatype.kind == "bytes":
        return _split(given, count) if given.shape is not None else [bytes(given.data)]
    check_size(given, datatype, (count,))
    if datatype.kind == "bool" and max(given.data, default=0) > 1:
        raise InvalidInput("the bytes of a BOOL are 0 or 1", where=given.place)
    return struct.unpack(f"<{count}{datatype.code}", given.data)


def split_bytes(tensor: bytes | memoryview) -> list[bytes] | None:
    """Return the elements of a binary tensor of BYTES; None if the last one is cut off."""
    data, at, elements = memoryview(tensor), 0, []
    while at < len(data):
        begin = at + _LENGTH.size
        if begin > len(data):
            break
        at = begin + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            break
        elements.append(bytes(data[begin:at]))
    return elements if at == len(data) else None


def join_bytes(elements: Iterable[bytes]) -> bytes:
    """Return a binary tensor of BYTES."""
    return b"".join(piece for e in elements for piece in (_LENGTH.pack(len(e)), e))


def _split(given: GivenTensor, count: int) -> list[bytes]:
    """Take the elements of BYTES apart."""
    elements = split_bytes(given.data)
    if elements is None:
        raise InvalidInput("an element of BYTES ends behind the tensor's end", where=given.place)
    check_count(len(elements), (count,), given.place)
    return elements


def _from_json(given: GivenTensor, datatype: Datatype, shape: tuple[int, ...]) -> list[Any]:
    depth = len(shape) if is_nested(given) else 1
    place = f"{given.place}.data"
    try:
        values = _decoder(datatype.name, depth)(given.data)
    except msgspec.ValidationError as error:
        raise refused_data(error, place, datatype) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error), where=place) from None
    for length in shape[1:depth]:
        if any(len(inner) != length for inner in values):
            raise InvalidInput(f"data is not of shape {list(shape)}", where=place)
        values = [value for inner in values for value in inner]
    check_count(len(values), shape, place)
    if datatype.name == "UINT64" and max(values, default=0) > _LARGEST_UINT64:
        raise InvalidInput(
            f"Expected `int` <= {_LARGEST_UINT64}; the datatype is UINT64", where=place
        )
    return values


def is_nested(given: GivenTensor) -> bool:
    """Return whether data in JSON are a list of lists."""
    begun = memoryview(given.data)[:64].tobytes()
    if begun[:1] == b"[" and begun[1:2] not in _SPACE:
        return begun[1:2] == b"["
    return begun.lstrip(_SPACE)[1:].lstrip(_SPACE)[:1] == b"["


def check_count(count: int, shape: tuple[int, ...], place: str) -> None:
    """Raise InvalidInput if there are not as many elements as the shape says."""
    expected = math.prod(shape)
    if count != expected:
        raise InvalidInput(
            f"the shape {list(shape)} says {expected} elements, there are {count}", where=place
        )


def refused_data(
    error: msgspec.ValidationError, place: str, datatype: Datatype, *, annotation: Any = Any
) -> InvalidInput:
    """Return the error for data in JSON that do not match their datatype or shape, or the
    annotation of all instances.
    """
    problem, path = split_error(error)
    problem = with_choices(problem, path, annotation)
    where = place + path.removeprefix("$")
    return InvalidInput(f"{problem}; the datatype is {datatype.name}", where=where)


@lru_cache(maxsize=256)
def _decoder(name: str, depth: int) -> Callable[[bytes | memoryview], list[Any]]:
    element: Any
    datatype = DATATYPES[name]
    bits = 8 * datatype.size
    if datatype.kind == "bool":
        element = bool
    elif datatype.kind == "bytes":
        element = str
    elif datatype.kind == "uint":
        highest = (1 << bits) - 1  # of UINT64 beyond a bound of msgspec: see _from_json
        element = Annotated[int, msgspec.Meta(ge=0, le=highest if bits < 64 else None)]
    elif datatype.kind == "int":
        element = Annotated[int, msgspec.Meta(ge=-(1 << (bits - 1)), le=(1 << (bits - 1)) - 1)]
    elif (largest := _LARGEST_FLOATS.get(datatype.size)) is not None:
        element = Annotated[float, msgspec.Meta(ge=-largest, le=largest)]
    else:
        element = float
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element).decode


def nest(values: Sequence[Any], row: tuple[int, ...]) -> list[Any]:
    """Return values as a list of rows, each a nested list of these lengths."""
    nested = values if isinstance(values, list) else list(values)
    for length in reversed(row):
        nested = [nested[at : at + length] for at in range(0, len(nested), length)]
    return nested


def flatten(nested: list[Any], row: tuple[int, ...]) -> list[Any]:
    """Return the values of nested lists as one flat list."""
    for length in row:
        if any(len(inner) != length for inner in nested):
            raise UnfitPredictions(f"a prediction is not of shape {list(row)}")
        nested = [value for inner in nested for value in inner]
    return nested


def write_outputs(made: Sequence[MadeTensor], wanted: Sequence[Wanted]) -> tuple[bytes, bytes]:
    """Return the JSON of ``outputs``, and the bytes of those that are binary.

    Raises:
        UnfitPredictions: A value has no form in the datatype, or in JSON.
    """
    heads, tails = [], []
    for number, name, is_binary in wanted:
        found = made[number]
        about = b'{"name":%b,"datatype":"%b","shape":%b,' % (
            to_json(name),
            found.datatype.name.encode(),
            to_json(found.shape),
        )
        if is_binary:
            tails.append(_to_bytes(found))
            heads.append(about + b'"parameters":{"binary_data_size":%d}}' % len(tails[-1]))
        else:
            heads.append(about + b'"data":%b}' % _to_json(found))
    return b"[%b]" % b",".join(heads), b"".join(tails)


def _to_json(made: MadeTensor) -> bytes:
    values = made.values
    if made.json:
        _check_range(made)
        return made.json
    if made.datatype.kind == "bytes":
        try:
            values = [v.decode() if isinstance(v, bytes) else v for v in values]
        except UnicodeDecodeError:
            raise UnfitPredictions(
                "bytes that are not UTF-8 have no form in JSON; ask for binary_data"
            ) from None
    elif hasattr(values, "reshape"):
        values = values.reshape(-1)
    output = to_json(values)
    if b"null" in output and made.datatype.kind != "bytes":
        raise UnfitPredictions("NaN and infinity have no form in JSON; ask for binary_data")
    _check_range(made)
    return output


def _check_range(made: MadeTensor) -> None:
    """Raise UnfitPredictions if a whole number of Python's is none of INT64."""
    is_ours = made.datatype is INT64 and isinstance(made.values, list)
    if is_ours and made.values and max(made.values) >= 1 << 63:  # lower ones JSON has not either
        raise UnfitPredictions("a prediction has no form in INT64: it is too large")


def _to_bytes(made: MadeTensor) -> bytes:
    values, datatype = made.values, made.datatype
    if datatype.kind == "bytes":
        return join_bytes(v.encode() if isinstance(v, str) else v for v in values)
    if hasattr(values, "tobytes"):
        return bytes(values.tobytes())
    try:
        return struct.pack(f"<{len(values)}{datatype.code}", *values)
    except (struct.error, OverflowError) as error:
        raise UnfitPredictions(f"a prediction has no form in {datatype.name}: {error}") from None
