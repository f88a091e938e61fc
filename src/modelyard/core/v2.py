"""Requests and answers of the Open Inference Protocol V2, on their way between gateway and runner.

What a runner gets in the form ``v2`` is a head in JSON, and behind it the bytes of the tensors that
are binary, as the client sent them:

    length of the head (4 bytes, little-endian) · head · tensor · tensor · …

and so is what it answers, whose head is the JSON of ``outputs``. So the gateway reads no tensor,
and what does not change the answer to a request (``id``, ``timeout``) is no part of what is cached.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from modelyard.core.errors import InvalidInput, Malformed

LENGTH_BYTES = 4
MOST_TENSORS = 4096

Axis = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
Value = str | int | float | bool | None


class SentTensor(msgspec.Struct, gc=False):
    """One of ``inputs`` as it is written; its ``data`` is JSON, or follows in binary."""

    name: str
    shape: list[Axis]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class WantedOutput(msgspec.Struct, gc=False):
    """One of ``outputs`` of a request."""

    name: str
    parameters: dict[str, Any] | None = None


class Question(msgspec.Struct, array_like=True, gc=False):
    """The head of what a runner gets. A list, as it has to be shorter than what a client sends: see
    ``pack_in_place``.

    Attributes:
        inputs: As they are written.
        outputs: Which of them are wanted; None for all.
        binary: Whether outputs are binary that do not say it themselves.
        raw: Whether the only input's bytes are all that there is.
    """

    inputs: list[SentTensor] = []
    outputs: list[WantedOutput] | None = None
    binary: bool = False
    raw: bool = False


class GivenTensor(NamedTuple):
    """An input, with its bytes where it is binary.

    ``shape`` is None in a raw request, which says neither shape nor datatype.
    """

    name: str
    place: str
    datatype: str
    shape: tuple[int, ...] | None
    data: bytes | memoryview
    is_binary: bool


class Wanted(NamedTuple):
    """An output that is to be written, by its number among the model's, under this name."""

    number: int
    name: str
    is_binary: bool


class _Shape(msgspec.Struct, gc=False):
    shape: list[Axis]


class _Counted(msgspec.Struct, array_like=True, gc=False):
    inputs: list[_Shape] = []


_decode_question = msgspec.json.Decoder(Question).decode
_decode_counted = msgspec.json.Decoder(_Counted).decode


B = TypeVar("B", bytes, memoryview)

RAW_HEAD = b"[[],null,true,true]"
"""That of a raw request."""


def question_head(inputs: msgspec.Raw, outputs: msgspec.Raw, *, is_binary: bool) -> bytes:
    """Return the head of a request, from the JSON of its parts."""
    if is_binary:
        return b"[%b,%b,true]" % (inputs, outputs)
    return b"[%b,%b]" % (inputs, outputs)


def pack(head: bytes, tail: bytes | memoryview = b"") -> bytes:
    """Put a head and what follows it into one."""
    return b"".join((len(head).to_bytes(LENGTH_BYTES, "little"), head, tail))


def pack_in_place(body: bytes | bytearray, json_bytes: int, head: bytes) -> bytes | memoryview:
    """Return ``head``, followed by the rest of ``body`` after its JSON.

    A large body is a bytearray, which is ours: the head is written over its JSON, and nothing is
    copied. A second buffer of half a megabyte costs more than all else of such a request.
    """
    begin = json_bytes - LENGTH_BYTES - len(head)
    if begin < 0 or not isinstance(body, bytearray):
        return pack(head, bytes(body[json_bytes:]))
    view = memoryview(body)
    view[begin:json_bytes] = pack(head)
    return view[begin:]


def unpack(raw: B) -> tuple[B, B]:
    """Take them apart again. Of a memoryview nothing is copied."""
    end = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little")
    return raw[LENGTH_BYTES:end], raw[end:]


def count_rows(raw: memoryview, *, most_bytes: int) -> int | None:
    """Return the number of instances: axis 0 of the first input; 1 if that cannot be read, which
    the runner will report. None if the head has more than ``most_bytes``.
    """
    head, _ = unpack(raw)
    if len(head) > most_bytes:
        return None
    try:
        inputs = _decode_counted(head).inputs
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 1
    return inputs[0].shape[0] if inputs and inputs[0].shape else 1


def read_question(raw: bytes | memoryview) -> tuple[Question, list[GivenTensor]]:
    """Return a request's head, and its inputs with their bytes.

    Raises:
        Malformed: It is not what the protocol says.
        InvalidInput: A tensor's bytes are not as many as it says, or are where we cannot read them.
    """
    head, tail = unpack(memoryview(raw))
    try:
        question = _decode_question(head)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).rpartition(" - at ")
        where = path.strip("`").replace("$[0]", "$.inputs", 1).replace("$[1]", "$.outputs", 1)
        raise InvalidInput(problem or path, where=where if problem else "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if question.raw:
        return question, [GivenTensor("", "the body", "", None, tail, is_binary=True)]
    count = len(question.inputs)
    if count > MOST_TENSORS:
        raise InvalidInput(f"a request may have {MOST_TENSORS} inputs", where="$.inputs")
    given = []
    for place, sent in zip(_places(count), question.inputs, strict=True):
        size = _binary_size(sent, place) if sent.parameters or not sent.data else None
        shape = tuple(sent.shape)
        if size is None:
            found = GivenTensor(sent.name, place, sent.datatype, shape, sent.data, False)
        else:
            if size > len(tail):
                raise InvalidInput(
                    f"binary_data_size is {size}, and {len(tail)} bytes are left", where=place
                )
            found = GivenTensor(sent.name, place, sent.datatype, shape, tail[:size], is_binary=True)
            tail = tail[size:]
        given.append(found)
    if len(tail):
        raise InvalidInput(f"{len(tail)} bytes follow the last tensor", where="$.inputs")
    return question, given


@lru_cache(maxsize=64)
def _places(count: int) -> list[str]:
    """Return where each of so many inputs is, for errors."""
    return [f"$.inputs[{number}]" for number in range(count)]


def _binary_size(sent: SentTensor, place: str) -> int | None:
    """Return the bytes of a binary tensor; None if it is JSON."""
    parameters = sent.parameters or {}
    if "shared_memory_region" in parameters:
        raise InvalidInput("tensors in shared memory are not offered here", where=place)
    size = parameters.get("binary_data_size")
    if size is None:
        if not sent.data:
            raise InvalidInput("there is neither data nor binary_data_size", where=place)
        return None
    if sent.data:
        raise InvalidInput("data and binary_data_size exclude each other", where=place)
    if type(size) is not int or size < 0:
        raise InvalidInput("binary_data_size is a number of bytes", where=place)
    return size


def choose_outputs(question: Question, names: list[str], *, is_named: bool) -> list[Wanted]:
    """Return the outputs that are wanted, in the order in which they are asked for.

    ``names``: of the model's outputs. ``is_named``: whether the model's author gave them; else any
    name means the only one.

    Raises:
        InvalidInput: One is unknown, is asked for twice, or in a way that is not offered.
    """
    if not question.outputs:
        return [Wanted(n, name, question.binary) for n, name in enumerate(names)]
    chosen: dict[int, Wanted] = {}
    for position, output in enumerate(question.outputs):
        place, parameters = f"$.outputs[{position}]", output.parameters or {}
        for option in ("classification", "shared_memory_region"):
            if parameters.get(option):
                raise InvalidInput(f"{option} is not offered here", where=place)
        is_binary = parameters.get("binary_data", question.binary)
        if not isinstance(is_binary, bool):
            raise InvalidInput("binary_data is true or false", where=place)
        if output.name in names:
            number = names.index(output.name)
        elif not is_named and len(names) == 1:
            number = 0
        else:
            raise InvalidInput(
                f"the model has no output {output.name!r}; it has {', '.join(names)}", where=place
            )
        if number in chosen:
            raise InvalidInput(f"output {output.name!r} is asked for twice", where=place)
        chosen[number] = Wanted(number, output.name, is_binary)
    return list(chosen.values())
