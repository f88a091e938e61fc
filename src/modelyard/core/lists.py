"""Models of lists: the side of a contract that ``list[T]`` is, with any T that msgspec takes.

Also what both kinds of sides are: ``Side``.
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
    """A model class that cannot be served; the text says what to write instead."""


class UnfitPredictions(Exception):
    """What a model returned is not what it declares; the text names the place, and no value."""


class Instances(Protocol):
    """The instances of a request or of a batch: a list, or an array along axis 0."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> Any: ...


class Side(Protocol):
    """One side of a contract, input or output."""

    @property
    def annotation(self) -> Any:
        """The type of the JSON."""
        ...

    @property
    def is_array(self) -> bool:
        """Whether ``predict`` has a numpy array here."""
        ...

    def decode(self, raw: bytes | memoryview, form: Form) -> Instances:
        """Give the instances of one request.

        Raises:
            msgspec.DecodeError, ValueError, OverflowError, InvalidInput: It is not what it should
                be.
        """
        ...

    def encode(self, value: Any, form: Form, *, is_checked: bool) -> bytes:
        """Write predictions.

        Raises:
            UnfitPredictions: They are not what the annotation says, which is looked at if
                ``is_checked``; or they cannot be written.
        """
        ...

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Put the instances of one or more requests behind each other, for the model to have."""
        ...

    def check(self, value: Any, *, count: int) -> str | None:
        """Say what is wrong with ``value`` as ``count`` predictions, or None."""
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
        """Give the instances in ``raw``; see Side."""
        if form == "json":
            return self._from_json(raw)
        if form != "msgpack":
            return self._from_body(raw)
        if raw and raw[0] in EXTENSION_MARKERS:
            return self._from_array(raw)
        return self._from_msgpack(raw)

    def _from_array(self, raw: bytes | memoryview) -> list[Any]:
        """Take an array: who has one sends it to any model, without knowing how that is written."""
        packed = read_packed(memoryview(raw))
        if packed is None:
            return self._from_msgpack(raw)  # an extension of another type: says what is wrong
        instances: list[Any] = msgspec.convert(to_lists(packed), self.annotation)
        return instances

    def _from_body(self, raw: bytes | memoryview) -> list[Any]:
        """Take each of the byte strings in ``raw`` as an instance."""
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
        """Write predictions, numpy's scalars and arrays as numbers and lists; see Side.

        What was written is read again to check it: it is all that a caller sees, and takes less
        time than to look at the objects.
        """
        try:
            if form == "msgpack":
                output, read = _to_msgpack(value), self._from_msgpack
            else:
                output, read = to_json(value), self._from_json
                # A null is what the encoder makes of a NaN; or what the model may well say.
                is_checked = is_checked or b"null" in output
        except NotImplementedError as error:
            raise UnfitPredictions(f"the predictions have no form in JSON: {error}") from None
        if is_checked and self._says_something:
            try:
                read(output)
            except msgspec.ValidationError as error:
                raise as_unfit(error) from None
        return output

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Put lists behind each other."""
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
    """Give what msgspec can write of a value that it does not know."""
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, without importing numpy
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


to_json = msgspec.json.Encoder(enc_hook=to_builtin).encode
_to_msgpack = msgspec.msgpack.Encoder(enc_hook=to_builtin).encode


def _bare(element: Any) -> Any:
    """Give a type without what ``Annotated`` adds to it."""
    return typing.get_args(element)[0] if typing.get_origin(element) is Annotated else element


def as_unfit(error: msgspec.ValidationError) -> UnfitPredictions:
    """Turn msgspec's sentence, which ends in a path, into one about a prediction."""
    problem, _, path = str(error).rpartition(" - at ")
    place = path.strip("`").removeprefix("$")
    hint = "; None is also how a NaN is written" if "`null`" in problem else ""
    return UnfitPredictions(
        f"a prediction is not what its annotation says: {problem}, at prediction{place}{hint}"
    )
