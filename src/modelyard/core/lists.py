"""The contract of models that take or return ``list[T]``, with any T that msgspec understands.

Also the interface that both kinds of contract implement: ``Side``.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import msgspec

from modelyard.core.errors import InvalidInput
from modelyard.core.messages import Form
from modelyard.core.packed import EXTENSION_MARKERS, read_packed, to_lists


class ContractError(Exception):
    """The model class cannot be served; the text says what to write instead."""


class UnfitPredictions(Exception):
    """A model returned something other than its annotation declares.

    The text names the place, but quotes no value.
    """


class Instances(Protocol):
    """The instances of a request or a batch: a list, or an array along axis 0."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> Any: ...


class Side(Protocol):
    """One side of a contract, input or output."""

    @property
    def annotation(self) -> Any:
        """The Python type that describes the JSON."""
        ...

    @property
    def is_array(self) -> bool:
        """Whether ``predict`` takes or returns a numpy array here."""
        ...

    def decode(self, raw: bytes | memoryview, form: Form) -> Instances:
        """Return the instances of one request.

        Raises:
            msgspec.DecodeError, ValueError, OverflowError, InvalidInput: ``raw`` does not match.
        """
        ...

    def encode(self, value: Any, form: Form, *, is_checked: bool) -> bytes:
        """Encode predictions.

        Raises:
            UnfitPredictions: They do not match the annotation (checked only if ``is_checked``), or
                cannot be encoded.
        """
        ...

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Concatenate the instances of one or more requests into a batch."""
        ...

    def check(self, value: Any, *, count: int) -> str | None:
        """Say what is wrong with ``value`` as ``count`` predictions, or None.

        Raises:
            UnfitPredictions: They are as many as there should be, and of another dtype than is
                declared; or a number is out of its range.
        """
        ...


class Lists:
    """``list[T]``: instances as msgspec decodes them."""

    is_array = False

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._from_json: Callable[[bytes | memoryview], list[Any]]
        self._from_json = msgspec.json.Decoder(annotation).decode
        self._from_msgpack: Callable[[bytes | memoryview], list[Any]]
        self._from_msgpack = msgspec.msgpack.Decoder(annotation).decode
        self._element = _bare(typing.get_args(annotation)[0])
        self._says_something = self._element is not Any

    def decode(self, raw: bytes | memoryview, form: Form) -> Instances:
        """Return the instances in ``raw``; see Side."""
        if form == "json":
            return self._from_json(raw)
        if form != "msgpack":
            return self._from_body(raw)
        if raw and raw[0] in EXTENSION_MARKERS:
            return self._from_array(raw)
        return self._from_msgpack(raw)

    def _from_array(self, raw: bytes | memoryview) -> list[Any]:
        """Convert a packed array: callers may send one to any model, however it is annotated."""
        packed = read_packed(memoryview(raw))
        if packed is None:
            return self._from_msgpack(raw)  # an extension of another type: says what is wrong
        instances: list[Any] = msgspec.convert(to_lists(packed), self.annotation)
        return instances

    def _from_body(self, raw: bytes | memoryview) -> list[Any]:
        """Return each byte string in ``raw`` as an instance."""
        files: list[bytes] = _files(raw)
        if self._element is bytes:
            found: list[Any] = files
        elif self._element is str:
            found = [str(file, "utf-8") for file in files]
        else:
            raise InvalidInput(
                "the model takes neither bytes nor text: "
                "send its instances as application/json or application/msgpack",
                where="$.input_data",
            )
        instances: list[Any] = msgspec.convert(found, self.annotation)
        return instances

    def encode(self, value: Any, form: Form, *, is_checked: bool) -> bytes:
        """Encode predictions, numpy scalars and arrays as numbers and lists; see Side.

        The check decodes the output again. That is what the caller will see, and it takes less
        time than inspecting the objects.
        """
        try:
            if form == "msgpack":
                output, read = _to_msgpack(value), self._from_msgpack
            else:
                output, read = to_json(value), self._from_json
                # The encoder writes NaN as null; a null may also be a legitimate prediction.
                is_checked = is_checked or b"null" in output
        except NotImplementedError as error:
            raise UnfitPredictions(f"the predictions cannot be written as JSON: {error}") from None
        if is_checked and self._says_something:
            try:
                read(output)
            except msgspec.ValidationError as error:
                raise as_unfit(error) from None
        return output

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Concatenate lists."""
        if len(parts) == 1:
            return parts[0]
        return [instance for part in parts for instance in typing.cast("list[Any]", part)]

    def check(self, value: Any, *, count: int) -> str | None:
        """Say what is wrong with ``value`` as ``count`` predictions, or None."""
        is_sliceable = isinstance(value, list | tuple) or len(getattr(value, "shape", ())) > 0
        if not is_sliceable:
            return f"returned {type(value).__name__} where a list is expected"
        given = len(value)
        return None if given == count else f"returned {given} predictions for {count} instances"


_files = msgspec.msgpack.Decoder(list[bytes]).decode


def to_builtin(value: Any) -> Any:
    """Return what msgspec can write of a value that it does not know."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    raise NotImplementedError(f"type {type(value).__name__} is not supported")


to_json = msgspec.json.Encoder(enc_hook=to_builtin).encode
_to_msgpack = msgspec.msgpack.Encoder(enc_hook=to_builtin).encode


def _bare(element: Any) -> Any:
    """Return the type inside ``Annotated``."""
    return typing.get_args(element)[0] if typing.get_origin(element) is Annotated else element


def as_unfit(error: msgspec.ValidationError) -> UnfitPredictions:
    """Turn msgspec's message, which ends in a path, into one about a prediction."""
    problem, _, path = str(error).rpartition(" - at ")
    place = path.strip("`").removeprefix("$")
    hint = "; a NaN is written as null too" if "`null`" in problem else ""
    return UnfitPredictions(
        f"a prediction does not match its annotation: {problem}, at prediction{place}{hint}"
    )
