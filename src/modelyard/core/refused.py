"""What a caller is told of instances that the model does not take, and what to send instead."""

from __future__ import annotations

from typing import Any

import msgspec

from modelyard.core.choices import KEY, split_error, with_choices
from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.lists import Side
from modelyard.core.messages import Form
from modelyard.core.packed import EXTENSION_CODE

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def refuse(
    error: msgspec.ValidationError, raw: bytes | memoryview, form: Form, *, side: Side
) -> InvalidInput | Malformed:
    """Return the error for ``raw``, which ``side`` does not take.

    A value that no type can represent is malformed, any other is invalid. Only requests that
    already failed pay for the second decode that tells.
    """
    extensions: set[int] = set()

    def note(code: int, _data: object) -> None:
        extensions.add(code)

    try:
        if form == "json":
            msgspec.json.decode(raw)
        elif form != "raw":
            msgspec.msgpack.decode(raw, ext_hook=note)
    except _UNDECODABLE as deeper:
        return Malformed(f"input_data: {deeper}", where="$.input_data")
    problem, place = split_error(error)
    problem = with_choices(problem, place, side.annotation) + _advise(problem, side, extensions)
    return _located(problem, place)


def refuse_tensors(error: msgspec.ValidationError, annotation: Any) -> InvalidInput:
    """Return the error for tensors whose instances do not match ``annotation``."""
    problem, place = split_error(error)
    problem = with_choices(problem, place, annotation)
    return _located(problem, place)


def _located(problem: str, place: str) -> InvalidInput:
    is_key = place.startswith(KEY)
    where = place.removeprefix(KEY).removeprefix("$")
    return InvalidInput(
        f"a key of the object: {problem}" if is_key else problem, where=f"$.input_data{where}"
    )


def _advise(problem: str, side: Side, extensions: set[int]) -> str:
    """Return what to send instead of arrays that stand where the model takes none."""
    is_bytes = side.is_array and problem.endswith("got `bytes`")
    if not is_bytes and "got `ext`" not in problem:
        return ""
    if extensions and EXTENSION_CODE not in extensions:
        return f"; extension type {min(extensions)} is no array: those are {EXTENSION_CODE}"
    if not side.is_array:
        return "; the model takes no numpy array here: send array.tolist()"
    return (
        "; axis 0 of one array is the batch: send "
        "modelyard.arrays.pack_array(numpy.stack(arrays)) in place of a list"
    )
