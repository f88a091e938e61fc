"""What travels between the parts: a request, a batch and its answers, a target's announcement.

Frames between pool and runner are a length (4 bytes, big-endian) and MessagePack. Inputs and
outputs are raw JSON or MessagePack all the way, as the client sent them: the gateway does not read
the first, nobody re-reads the second.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import Failure
from modelyard.core.manifest import Limits
from modelyard.core.names import Target

State = Literal["starting", "ready", "recovering", "failed", "stopped", "asleep"]
"""Of a target. ``asleep``: nothing of it is up, and something will be when requests wait for it."""

SERVING: frozenset[State] = frozenset(("ready", "recovering"))
"""The states in which a pool takes requests."""


Form = Literal["json", "msgpack", "raw", "v2"]
"""What inputs and outputs are written in. ``raw``: the input is files as they are, as a MessagePack
list of byte strings. ``v2``: tensors, see ``core/v2.py``. An answer has the form of its question,
but to ``raw`` it is JSON."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One caller's instances for one target.

    ``input`` is ``input_data`` as it came; ``deadline`` a ``time.monotonic()`` reading.
    """

    id: str
    target: Target
    input: memoryview
    deadline: float
    priority: Priority = "normal"
    form: Form = "json"


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to runner: the inputs of one or more requests, answered in this order.

    ``forms``: of each input; none where all are JSON. ``deadlines``: of each input, if the batch
    may lie there until a request of it is late.
    """

    inputs: list[memoryview]
    forms: list[Form] = []
    deadlines: list[float] = []


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to runner: unload the model and end."""


class Schema(msgspec.Struct, frozen=True):
    """The JSON of what a model takes and gives, as JSON Schema, and of an input that works.

    ``tensors``: of ``inputs`` and ``outputs`` as V2 tells them; empty if a worker of an older
    release announced the target.
    """

    input: bytes
    output: bytes
    example: bytes
    tensors: bytes = b""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Runner to pool: the model is loaded and warm. ``warm_up_s``: what the example took."""

    digest: str
    input_schema: bytes
    output_schema: bytes
    example: bytes
    warm_up_s: float
    tensors: bytes = b""

    @property
    def schema(self) -> Schema:
        """What is told of it to whoever asks."""
        return Schema(self.input_schema, self.output_schema, self.example, self.tensors)


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Runner to pool: the model cannot be served, and why."""

    reason: str


class Answers(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Runner to pool: one outcome per input, its predictions in the input's form, or a failure.

    ``model_s``: seconds inside ``predict``; ``sizes``: instances of each ``predict`` call.
    """

    outcomes: list[bytes | Failure]
    model_s: float
    sizes: list[int]


class Announcement(msgspec.Struct, frozen=True):
    """What one pool says of its target, or the sum of what several say: enough to route, check and
    document.

    ``is_default``: whether ``model.toml`` says that it answers requests that name no version;
    ``workers``: how many serve it.
    """

    target: Target
    state: State
    description: str
    limits: Limits
    cache_ttl_s: float
    max_batch_size: int
    runners: int
    runners_ready: int
    digest: str = ""
    schema: Schema | None = None
    reason: str = ""
    scale_to_zero: bool = False
    is_default: bool = False
    workers: int = 1


class Member(msgspec.Struct, frozen=True):
    """One worker of a target, for people to look at. ``host``: the machine or pod it runs on."""

    name: str
    host: str
    state: State
    reason: str
    runners: int
    runners_ready: int


FRAME_HEADER_BYTES = 4

to_runner = msgspec.msgpack.Decoder(Batch | Stop)
to_pool = msgspec.msgpack.Decoder(Ready | LoadFailed | Answers)
_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: Batch | Stop | Ready | LoadFailed | Answers) -> bytearray:
    """Give the frame of one message, header included."""
    frame = bytearray(FRAME_HEADER_BYTES)
    _encoder.encode_into(message, frame, FRAME_HEADER_BYTES)
    frame[:FRAME_HEADER_BYTES] = (len(frame) - FRAME_HEADER_BYTES).to_bytes(4, "big")
    return frame


LARGE_BYTES = 64 * 1024
_BATCH_HEAD = _encoder.encode(Batch([]))[:-3]  # all but its empty lists, a byte each


def encode_batch(batch: Batch) -> list[bytes | bytearray | memoryview]:
    """Give the frame of a batch in pieces. Large inputs are pieces of their own, not copied."""
    if sum(map(len, batch.inputs)) < LARGE_BYTES:
        return [encode_frame(batch)]
    rest = _encoder.encode(batch.forms) + _encoder.encode(batch.deadlines)
    pieces: list[bytes | bytearray | memoryview] = [
        b"%b\xdd%b" % (_BATCH_HEAD, len(batch.inputs).to_bytes(4, "big"))  # a list of so many
    ]
    for raw in batch.inputs:
        pieces += [b"\xc6" + len(raw).to_bytes(4, "big"), raw]  # so many bytes
    pieces.append(rest)
    return [sum(map(len, pieces)).to_bytes(FRAME_HEADER_BYTES, "big"), *pieces]
