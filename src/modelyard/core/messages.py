"""Messages between the parts: a request, a batch and its answers, a target's announcement.

A frame between pool and runner is a length (4 bytes, big-endian) and MessagePack. Inputs and
outputs stay raw JSON or MessagePack all the way. The gateway does not decode the inputs, and nobody
decodes the outputs after the runner has encoded them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import Failure
from modelyard.core.manifest import Limits
from modelyard.core.measured import Drop, Measure
from modelyard.core.names import Target
from modelyard.core.trail import Trail

State = Literal["starting", "ready", "recovering", "failed", "stopped", "asleep"]
"""State of a target. ``asleep``: nothing of it is up, but a request will wake it."""

SERVING: frozenset[State] = frozenset(("ready", "recovering"))
"""The states in which a pool takes requests."""

Form = Literal["json", "msgpack", "raw", "v2"]
"""The encoding of inputs and outputs. ``raw``: the input is one or more files, as a MessagePack
list of byte strings. ``v2``: tensors, see ``core/v2.py``. An answer has the form of its request,
except that ``raw`` is answered in JSON."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One caller's instances for one target.

    ``input`` is ``input_data`` as received; ``deadline`` is a ``time.monotonic()`` reading;
    ``caller`` is the id of a key, as far as callers are known; ``trail`` is for traces, and for a
    model that calls others.
    """

    id: str
    target: Target
    input: memoryview
    deadline: float
    priority: Priority = "normal"
    form: Form = "json"
    caller: str = ""
    trail: Trail | None = None


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """What a runner has to know of a request for traces, calls of others, or jobs: ``Request``."""

    id: str
    deadline: float
    priority: Priority
    trail: Trail


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to runner: the inputs of one or more requests, answered in this order.

    ``forms``: of each input; empty if all are JSON. ``deadlines``: of each input, if the batch is
    handed over while another one runs, so that requests may expire before it starts; else empty.
    ``origins``: of each input, if one is traced or a job, or the model calls others; else empty.
    """

    inputs: list[memoryview]
    forms: list[Form] = []
    deadlines: list[float] = []
    origins: list[Origin] = []


class Shared(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to runner: a large ``Batch``, as MessagePack, is in the memory that they share."""

    begin: int
    size: int


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to runner: unload the model and end."""


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to concurrent runner: a batch, beside those under way; see ``Batch``.

    ``id``: in ``Done`` and ``Pieces``. ``is_stream``: there is one input of one instance, and its
    answer is wanted in pieces.
    """

    id: int
    inputs: list[memoryview]
    forms: list[Form] = []
    is_stream: bool = False
    origins: list[Origin] = []


class Leave(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to concurrent runner: nobody waits for these any more. Each is still answered, as it is
    with ``Done`` or a last part, so that the pool knows when its place is free.
    """

    ids: list[int]


class Grant(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pool to concurrent runner: how many more pieces of a stream its reader can take."""

    id: int
    pieces: int


class Schema(msgspec.Struct, frozen=True):
    """JSON Schemas of a model's input and output, and an example input, all as JSON text.

    ``tensors``: those of inputs and outputs, as V2 describes them; empty if a worker of an older
    release announced the target. ``piece``: the schema of a piece of a streamed answer; empty if
    the model gives none.
    """

    input: bytes
    output: bytes
    example: bytes
    tensors: bytes = b""
    piece: bytes = b""


class Aside(msgspec.Struct, frozen=True, array_like=True):
    """Runner to pool: what answers nothing."""


class Progress(Aside, frozen=True, array_like=True, tag=True):
    """Runner to pool: how far the model is with a batch, from 0 to 1, and what it is at. ``id``: of
    the batch, if the runner is concurrent.
    """

    fraction: float
    message: str = ""
    id: int = 0


class Measured(Aside, frozen=True, array_like=True, tag=True):
    """Runner to pool: what the model has measured since it told last, and what was dropped."""

    metrics: list[Measure]
    dropped: dict[Drop, int]


class Ready(Aside, frozen=True, array_like=True, tag=True):
    """Runner to pool: the model is loaded and warm.

    ``warm_up_s``: seconds that the example and the model's own ``warm_up`` took.
    """

    digest: str
    input_schema: bytes
    output_schema: bytes
    example: bytes
    warm_up_s: float
    tensors: bytes = b""
    piece_schema: bytes = b""

    @property
    def schema(self) -> Schema:
        """The model's schemas, as announced to gateways."""
        return Schema(
            self.input_schema, self.output_schema, self.example, self.tensors, self.piece_schema
        )


class LoadFailed(Aside, frozen=True, array_like=True, tag=True):
    """Runner to pool: the model cannot be served, and why.

    ``reason`` is for the operator. ``told`` is for callers if ``reason`` quotes an exception of the
    model's, which may hold secrets: it names the type only. Empty if callers get ``reason``.
    """

    reason: str
    told: str = ""


class Answers(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Runner to pool: one outcome per input, its predictions in the input's form, or a failure.

    ``model_s``: seconds inside ``predict``; ``sizes``: instances of each ``predict`` call.
    """

    outcomes: list[bytes | Failure]
    model_s: float
    sizes: list[int]


class Done(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Concurrent runner to pool: the answers of one of the batches that are under way."""

    id: int
    answers: Answers


class Part(msgspec.Struct, frozen=True, array_like=True):
    """The next pieces of one stream, as JSON.

    ``first``: the number of the first of them, from 0. ``is_last``: the stream ends with them, by
    ``failure`` if there is one.
    """

    id: int
    first: int
    pieces: list[bytes]
    is_last: bool = False
    failure: Failure | None = None


class Pieces(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Concurrent runner to pool: what its streams have given of late."""

    parts: list[Part]


class Announcement(msgspec.Struct, frozen=True):
    """What one pool announces about its target, or the sum over several pools: enough to route,
    check and document.

    ``reason``: why it is not ready, for callers. ``full_reason``: the same with what the model's
    exception says, for the log and the terminal of this process; it is never sent anywhere. Empty
    if there is no more to say. ``reload_failed``: why the folder as it is now is not served; what
    is served is older.

    ``concurrency``: how many batches or streams a runner has under way; 0 for one batch at a time.
    ``is_default``: whether ``model.toml`` says that it answers requests that name no version;
    ``target_wait_s``: the time in which a backlog should be gone; ``workers``: how many serve it;
    ``calls``: the models that it may call; ``takes_errands``: whether it fetches jobs' inputs.
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
    target_wait_s: float = 1.0
    workers: int = 1
    full_reason: str = ""
    reload_failed: str = ""
    concurrency: int = 0
    calls: tuple[str, ...] = ()
    takes_errands: bool = False

    @property
    def gives_pieces(self) -> bool:
        """Whether answers can be had in pieces."""
        return self.schema is not None and bool(self.schema.piece)

    @property
    def operator_reason(self) -> str:
        """The reason as the operator sees it."""
        return self.full_reason or self.reason


class Member(msgspec.Struct, frozen=True):
    """One worker of a target, for display. ``host``: the machine or pod it runs on."""

    name: str
    host: str
    state: State
    reason: str
    runners: int
    runners_ready: int


FRAME_HEADER_BYTES = 4
ToRunner = Batch | Shared | Stop | Begin | Leave | Grant
Reply = Answers | Done | Pieces
Said = Progress | Measured
ToPool = Ready | LoadFailed | Said | Reply

to_runner = msgspec.msgpack.Decoder(ToRunner)
to_batch = msgspec.msgpack.Decoder(Batch)
to_pool = msgspec.msgpack.Decoder(ToPool)
_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: ToRunner | ToPool) -> bytearray:
    """Return the frame of one message, header included."""
    frame = bytearray(FRAME_HEADER_BYTES)
    _encoder.encode_into(message, frame, FRAME_HEADER_BYTES)
    frame[:FRAME_HEADER_BYTES] = (len(frame) - FRAME_HEADER_BYTES).to_bytes(4, "big")
    return frame


LARGE_BYTES = 64 * 1024
_BATCH_HEAD = _encoder.encode(Batch([]))[:-4]  # without its four empty lists, one byte each


def encode_batch(batch: Batch) -> list[bytes | bytearray | memoryview]:
    """Return the frame of a batch in pieces. Large inputs are not copied: each is a piece."""
    if sum(map(len, batch.inputs)) < LARGE_BYTES:
        return [encode_frame(batch)]
    pieces = pieces_of(batch)
    return [sum(map(len, pieces)).to_bytes(FRAME_HEADER_BYTES, "big"), *pieces]


def pieces_of(batch: Batch) -> list[bytes | bytearray | memoryview]:
    """Return the MessagePack of a batch in pieces; each of its inputs is one."""
    rest = b"".join(map(_encoder.encode, (batch.forms, batch.deadlines, batch.origins)))
    pieces: list[bytes | bytearray | memoryview] = [
        b"%b\xdd%b" % (_BATCH_HEAD, len(batch.inputs).to_bytes(4, "big"))  # array 32, length
    ]
    for raw in batch.inputs:
        pieces += [b"\xc6" + len(raw).to_bytes(4, "big"), raw]  # bin 32, length
    pieces.append(rest)
    return pieces
