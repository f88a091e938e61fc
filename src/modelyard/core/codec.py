"""From JSON or MessagePack to what ``Model.predict`` takes, and from what it gives back to them.

The annotations of ``predict`` are the contract: ``list[T]`` with any T that msgspec understands, or
a numpy array with a declared dtype and instance shape. From them come decoding, validation and the
schemas. Runs in the runner, the one process that knows the model's types.

An array may come in MessagePack as the bytes of its instances one after the other (little-endian,
last axis first, as ``numpy.tobytes`` writes them): nothing is parsed, and copied once.
"""

from __future__ import annotations

import inspect
import json
import math
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.messages import Form

if TYPE_CHECKING:
    import numpy as np


class ContractError(Exception):
    """A model class that cannot be served; the text says what to write instead."""


class Tensor(msgspec.Struct, frozen=True):
    """Declares a numpy array: ``Annotated[np.ndarray, Tensor("float32", (3, 224, 224))]``.

    ``shape`` is that of one instance. The array that ``predict`` gets and gives has one axis more:
    axis 0, the batch.
    """

    dtype: str
    shape: tuple[int, ...] = ()


class Instances(Protocol):
    """The instances of a request or of a batch: a list, or an array along axis 0."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> Any: ...


class Decoder(Protocol):
    """Msgspec's, for either form."""

    def decode(self, raw: bytes | memoryview, /) -> Any: ...


class Side(Protocol):
    """One side of the contract, input or output."""

    @property
    def annotation(self) -> Any:
        """The type of the JSON."""
        ...

    @property
    def packed_annotation(self) -> Any:
        """The type of the MessagePack."""
        ...

    def take(self, value: Any) -> Instances:
        """Turn what the decoder gave into the instances of one request."""
        ...

    def give(self, value: Any) -> Any:
        """Turn what the model gave into what the MessagePack encoder takes."""
        ...

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Put the instances of one or more requests behind each other, for the model to have."""
        ...

    def check(self, value: Any, *, count: int) -> str | None:
        """Say what is wrong with ``value`` as ``count`` predictions, or None."""
        ...


class Lists:
    """``list[T]``: instances as msgspec decodes them."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = self.packed_annotation = annotation

    def take(self, value: list[Any]) -> Instances:
        return value

    def give(self, value: Any) -> Any:
        return value

    def join(self, parts: Sequence[Instances]) -> Instances:
        if len(parts) == 1:
            return parts[0]
        return [instance for part in parts for instance in typing.cast("list[Any]", part)]

    def check(self, value: Any, *, count: int) -> str | None:
        is_sliceable = isinstance(value, list | tuple) or len(getattr(value, "shape", ())) > 0
        if not is_sliceable:
            return f"returned {type(value).__name__} where a list is expected"
        given = len(value)
        return None if given == count else f"returned {given} predictions for {count} instances"


class Arrays:
    """A numpy array whose axis 0 is the batch; requests are stacked along it and split again."""

    def __init__(self, tensor: Tensor) -> None:
        import numpy as np

        if not all(0 < length < 1 << 31 for length in tensor.shape):
            raise ContractError(f"Tensor(…, {tensor.shape}): write positive lengths")
        self._np = np
        self._tensor = tensor
        self._dtype = np.dtype(tensor.dtype)
        self.annotation = list[self._element()]  # type: ignore[misc]
        self.packed_annotation = memoryview | self.annotation
        self._wire_dtype = self._dtype.newbyteorder("<")
        self._instance_bytes = math.prod(tensor.shape) * self._dtype.itemsize

    def _element(self) -> Any:
        """Give the type of one instance: nested lists of exact lengths, numbers within range."""
        kind = self._dtype.kind
        element: Any
        if kind == "b":
            element = bool
        elif kind in "iu":
            whole = self._np.iinfo(self._dtype)
            if whole.max > (1 << 63) - 1:  # beyond what a bound of msgspec may be
                element = Annotated[int, msgspec.Meta(ge=0)]
            else:
                element = Annotated[int, msgspec.Meta(ge=int(whole.min), le=int(whole.max))]
        elif kind == "f" and self._dtype.itemsize <= 8:
            largest = float(self._np.finfo(self._dtype).max)
            element = Annotated[float, msgspec.Meta(ge=-largest, le=largest)]
        else:
            raise ContractError(
                f"Tensor({self._tensor.dtype!r}): write a bool, int, uint or float dtype"
            )
        for length in reversed(self._tensor.shape):
            exactly = msgspec.Meta(min_length=length, max_length=length)
            element = Annotated[list[element], exactly]
        return element

    def take(self, value: list[Any] | memoryview) -> Instances:
        if not isinstance(value, memoryview):
            return self._np.asarray(value, dtype=self._dtype)
        if len(value) % self._instance_bytes:
            raise ValueError(
                f"Expected a multiple of {self._instance_bytes} bytes, got {len(value)}"
            )
        array = self._np.frombuffer(value, dtype=self._wire_dtype)
        array = array.reshape(-1, *self._tensor.shape)
        if self._dtype.kind == "b" and array.view("uint8").max(initial=0) > 1:
            raise ValueError("Expected bytes that are 0 or 1")
        return array

    def give(self, value: Any) -> Any:
        array = self._np.ascontiguousarray(value, dtype=self._wire_dtype)
        return array.reshape(-1).view("uint8").data

    def join(self, parts: Sequence[Instances]) -> Instances:
        arrays = typing.cast("Sequence[np.ndarray[Any, Any]]", parts)
        if len(arrays) > 1:
            return self._np.concatenate(arrays, dtype=self._dtype)
        # A model may write into it, or hand it to code that knows aligned numbers only.
        is_usable = arrays[0].flags.behaved and arrays[0].dtype == self._dtype
        return arrays[0] if is_usable else arrays[0].astype(self._dtype)

    def check(self, value: Any, *, count: int) -> str | None:
        shape = getattr(value, "shape", None)
        expected = (count, *self._tensor.shape)
        if shape is None:
            return f"returned {type(value).__name__} where a numpy array is expected"
        if not self._np.can_cast(value.dtype, self._dtype, "same_kind"):
            return f"returned {value.dtype} where {self._dtype} is expected"
        return None if shape == expected else f"returned shape {shape} where {expected} is expected"


class Contract:
    """What one model takes and gives."""

    def __init__(self, *, takes: Side, gives: Side) -> None:
        self._takes = takes
        self._gives = gives
        self._decoders: dict[Form, Decoder] = {
            "json": msgspec.json.Decoder(takes.annotation),
            "msgpack": msgspec.msgpack.Decoder(takes.packed_annotation),
        }
        self._encoder = msgspec.json.Encoder(enc_hook=_to_builtin)
        self._packer = msgspec.msgpack.Encoder(enc_hook=_to_builtin)

    @property
    def input_schema(self) -> bytes:
        """JSON Schema of ``input_data``."""
        return _schema(self._takes.annotation, min_items=1)

    @property
    def output_schema(self) -> bytes:
        """JSON Schema of ``prediction``."""
        return _schema(self._gives.annotation, min_items=0)

    def decode(self, raw: bytes | memoryview, form: Form = "json") -> Instances:
        """Give the instances in ``raw``.

        Raises:
            Malformed: Not of this form, or a number or string that no type could hold.
            InvalidInput: Well-formed, but not what the model accepts; says where.
        """
        try:
            value = self._decoders[form].decode(raw)
        except msgspec.ValidationError as error:
            raise _as_request_error(error, raw, form) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"input_data: {error}", where="$.input_data") from None
        except Exception as error:  # from the __post_init__ of the model's own struct
            problem = f"{type(error).__name__}: {error}"
            raise InvalidInput(problem, where="$.input_data") from None
        if not value:
            raise InvalidInput("there are no instances", where="$.input_data")
        try:
            return self._takes.take(value)
        except (OverflowError, ValueError) as error:  # as 2**64 for an array of uint64
            raise InvalidInput(str(error), where="$.input_data") from None

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Put the instances of one or more requests behind each other, for the model to have."""
        return self._takes.join(parts)

    def join_predictions(self, parts: Sequence[Any]) -> Any:
        """Put the predictions of several calls behind each other."""
        return parts[0] if len(parts) == 1 else self._gives.join(parts)

    def check_predictions(self, predictions: Any, *, count: int) -> str | None:
        """Say what is wrong with what ``predict`` returned for ``count`` instances, or None."""
        return self._gives.check(predictions, count=count)

    def encode_example(self, example: Any) -> bytes:
        """Give the JSON of instances."""
        return self._encoder.encode(example)

    def encode(self, predictions: Any, form: Form = "json") -> bytes:
        """Write predictions; numpy scalars and arrays become numbers and lists, but in MessagePack
        an array that was declared becomes its bytes.

        Raises:
            ValueError: There is a NaN or an infinity, which JSON cannot say.
        """
        if form == "msgpack":
            return self._packer.encode(self._gives.give(predictions))
        output = self._encoder.encode(predictions)
        if b"null" in output:  # what the encoder makes of a NaN; or what the model may well say
            msgspec.json.decode(output, type=self._gives.annotation)
        return output


def contract_of(model_class: type) -> Contract:
    """Read the contract from the annotations of ``model_class.predict``.

    Raises:
        ContractError: The annotations are missing, or are none that can be served.
    """
    name = f"{model_class.__name__}.predict"
    predict = model_class.predict  # type: ignore[attr-defined]
    example = "def predict(self, instances: list[list[float]]) -> list[int]:"
    parameters = list(inspect.signature(predict).parameters)[1:]
    if len(parameters) != 1:
        raise ContractError(f"{name} takes {len(parameters)} arguments; write {example}")
    try:
        hints = typing.get_type_hints(predict, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ContractError(f"{name}: {error}; import it where the class is defined") from error
    sides = []
    for what, key in (("its argument", parameters[0]), ("what it returns", "return")):
        if key not in hints:
            raise ContractError(f"{name}: {what} has no annotation; write {example}")
        sides.append(_side(hints[key], f"{name}: {what}"))
    return Contract(takes=sides[0], gives=sides[1])


def _side(annotation: Any, what: str) -> Side:
    tensors = [extra for extra in getattr(annotation, "__metadata__", ()) if _is_tensor(extra)]
    if tensors:
        try:
            return Arrays(tensors[0])
        except (TypeError, ValueError, SyntaxError) as error:
            raise ContractError(f"{what}: {error}; write a numpy dtype, as float32") from error
    if getattr(annotation, "__name__", "") == "ndarray":
        raise ContractError(
            f"{what} is an array of unknown dtype and shape; "
            'write Annotated[np.ndarray, Tensor("float32", (4,))], the shape of one instance'
        )
    if typing.get_origin(annotation) is not list:
        raise ContractError(
            f"{what} is annotated {annotation!r}; write list[…] of what one instance is, "
            "for example list[list[float]], or Annotated[np.ndarray, Tensor(…)]"
        )
    try:
        msgspec.json.Decoder(annotation)
        _schema(annotation, min_items=0)
    except TypeError as error:
        raise ContractError(f"{what}: {error}; write a type that msgspec can decode") from error
    return Lists(annotation)


def _is_tensor(extra: object) -> bool:
    return isinstance(extra, Tensor)


def _schema(annotation: Any, *, min_items: int) -> bytes:
    schema = msgspec.json.schema(annotation)
    if min_items and "$ref" not in schema:
        schema.setdefault("minItems", min_items)
    return json.dumps(schema).encode()


def _as_request_error(
    error: msgspec.ValidationError, raw: bytes | memoryview, form: Form
) -> Exception:
    """Tell malformed from invalid: what no type at all could hold is malformed.

    Only requests that failed pay for this second look.
    """
    try:
        (msgspec.json.decode if form == "json" else msgspec.msgpack.decode)(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as deeper:
        return Malformed(f"input_data: {deeper}", where="$.input_data")
    problem, _, path = str(error).rpartition(" - at ")
    place = path.strip("`")
    if not problem or not place.startswith("$"):  # msgspec names a key, not a place
        return InvalidInput(str(error), where="$.input_data")
    return InvalidInput(problem, where="$.input_data" + place.removeprefix("$"))


def _to_builtin(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, without importing numpy
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")
