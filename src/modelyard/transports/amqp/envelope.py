"""Messages through the broker: bundles of requests, their answers, and workers' announcements.

A body is MessagePack followed by its CRC-32; the protocol version is in the message's ``type``.
Deadlines are Unix time here, because they leave the machine.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from typing import Annotated, Any, TypeVar
from zlib import crc32

import msgspec
from msgspec import Meta

from modelyard.core.errors import Failure
from modelyard.core.manifest import Count, Limits
from modelyard.core.messages import Form, Schema, State
from modelyard.core.names import Name, Target
from modelyard.core.objects import ObjectRef
from modelyard.core.routes import Snapshot
from modelyard.core.trail import Trail

T = TypeVar("T")
ShortText = Annotated[str, Meta(max_length=1_000)]
Tally = Annotated[int, Meta(ge=0, le=1_000_000)]
Duration = Annotated[float, Meta(ge=0, le=366 * 24 * 3600)]  # which NaN is not

BUNDLE = "modelyard.bundle.1"
STREAM = "modelyard.stream.1"
"""A bundle of one request, whose answer is wanted in pieces."""

PIECES = "modelyard.pieces.1"
NOTICE = "modelyard.notice.1"
ANSWERS = "modelyard.answers.1"
REFUSAL = "modelyard.refusal.1"
STATUS = "modelyard.status.1"
CARD = "modelyard.card.1"
HELLO = "modelyard.hello.1"
PING = "modelyard.ping.1"
PROGRESS = "modelyard.progress.1"
ROUTES = "modelyard.routes.1"


class Told(msgspec.Struct, frozen=True):
    """What one gateway tells another of routes; ``store``: which they are of. No snapshot: it asks
    for one.
    """

    store: ShortText
    snapshot: Snapshot | None = None


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One request of a bundle. ``key`` is assigned by the gateway; ``deadline`` is a Unix time."""

    key: int
    id: str
    input: memoryview
    deadline: float
    form: Form = "json"
    trail: Trail | None = None


Said = bytes | Failure | ObjectRef


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one item: its predictions, the object that they are, or its failure.

    ``instances``: how many there were; ``instance_s``: seconds that the model took for each.
    """

    key: int
    outcome: Said
    instances: int = 0
    instance_s: float = 0.0


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """The next pieces of a streamed answer; see ``core.messages.Part``.

    ``key``: of the item. ``run``: a number drawn by the worker for each time that it runs one, so
    that pieces of two runs are never mixed.
    """

    key: int
    run: int
    first: int
    pieces: list[bytes]
    is_last: bool = False
    failure: Failure | None = None


class Share(msgspec.Struct, frozen=True, array_like=True):
    """How far a model is with an item; see ``core.messages.Progress``."""

    key: int
    fraction: Annotated[float, Meta(ge=0, le=1)]
    message: ShortText


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """From a gateway to a target's workers, or to one of them: requests whose callers have
    ``left``, how many more pieces of streams are ``granted``, and which of those who left are jobs
    that were ``cancelled``. Requests are named by ``mark``.
    """

    left: list[bytes] = []
    granted: list[tuple[bytes, int]] = []
    cancelled: list[bytes] = []


class Card(msgspec.Struct, frozen=True):
    """What a target is and accepts. It changes only with the model's folder.

    Sent when it changes, in each new session and on request; gateways keep it by its id.
    """

    target: Target
    description: str
    limits: Limits
    cache_ttl_s: Duration
    max_batch_size: Count
    scale_to_zero: bool
    digest: str
    schema: Schema | None
    is_default: bool = False
    target_wait_s: Duration = 1.0
    concurrency: Annotated[int, Meta(ge=0, le=10_000)] = 0
    calls: tuple[Name, ...] = ()
    takes_errands: bool = False


class Status(msgspec.Struct, frozen=True, array_like=True):
    """A worker's state, published periodically: small, and of bounded size.

    Attributes:
        worker: Its unique name.
        host: The machine or pod that it runs on.
        target: The target that it serves.
        card: The id of the card that describes the target.
        queued: How many bundles wait in the target's queues, if the broker tells.
        instance_s: What an instance takes in a full batch of a runner, in seconds; 0 if none has
            run.
        is_last: Whether it goes away.
        queue_lost_s: Seconds since a queue of the target was deleted with its messages; None if
            never.
        release: Of Modelyard that it runs; empty for one that does not say so yet.
        at: When it says this, as Unix time; 0 likewise.
    """

    worker: ShortText
    host: ShortText
    target: Target
    card: ShortText
    state: State
    reason: Annotated[str, Meta(max_length=10_000)] = ""
    runners: Tally = 0
    runners_ready: Tally = 0
    queued: Annotated[int, Meta(ge=0)] | None = None
    instance_s: Duration = 0.0
    is_last: bool = False
    queue_lost_s: Annotated[float, Meta(ge=0)] | None = None
    release: ShortText = ""
    at: Annotated[float, Meta(ge=0)] = 0.0


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """A gateway's request: to all workers for their status, or to some of them for their cards."""

    gateway: str
    cards_of: list[str] = []


CHECKSUM_BYTES = 4

_encoder = msgspec.msgpack.Encoder()


def encode(content: object) -> bytearray:
    """Return the body of a message."""
    body = bytearray()
    _encoder.encode_into(content, body)
    body += crc32(body).to_bytes(CHECKSUM_BYTES, "big")
    return body


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """Read the body of a message.

    Raises:
        msgspec.DecodeError: The checksum does not match, or the body cannot be decoded.
    """
    content = memoryview(body)[:-CHECKSUM_BYTES]
    if crc32(content) != int.from_bytes(body[-CHECKSUM_BYTES:], "big"):
        raise msgspec.DecodeError("the checksum does not match")
    try:
        return decoder.decode(content)
    except (UnicodeDecodeError, RecursionError) as error:  # not one of our messages
        raise msgspec.DecodeError(str(error)) from error


decode_bundle = partial(_decode, msgspec.msgpack.Decoder(list[Item]))
decode_answers = partial(_decode, msgspec.msgpack.Decoder(list[Answer]))
decode_pieces = partial(_decode, msgspec.msgpack.Decoder(list[Piece]))
decode_shares = partial(_decode, msgspec.msgpack.Decoder(list[Share]))
decode_notice = partial(_decode, msgspec.msgpack.Decoder(Notice))
decode_refusal = partial(_decode, msgspec.msgpack.Decoder(Failure))
decode_status = partial(_decode, msgspec.msgpack.Decoder(Status))
_decode_card = partial(_decode, msgspec.msgpack.Decoder(Card))
decode_hello = partial(_decode, msgspec.msgpack.Decoder(Hello))
decode_told = partial(_decode, msgspec.msgpack.Decoder(Told))


def decode_card(body: bytes) -> Card:
    """Read a card.

    Raises:
        msgspec.MsgspecError: It is damaged, or its schema is none: with it all pages that show
            schemas would fail.
    """
    card = _decode_card(body)
    if (schema := card.schema) is not None:
        try:
            for text in (schema.input, schema.output):
                msgspec.json.decode(text, type=dict[str, Any])
            for text in filter(None, (schema.example, schema.tensors, schema.piece)):
                msgspec.json.decode(text)
        except (UnicodeDecodeError, RecursionError) as error:
            raise msgspec.DecodeError(str(error)) from error
    return card


def mark(reply_to: str, key: int) -> bytes:
    """Return what names a request in a notice. All workers of a target get it, and so may others
    who can read notices: it does not tell with which key the request could be answered.
    """
    return blake2b(b"%b %d" % (reply_to.encode(), key), digest_size=12).digest()


def card_id(encoded: bytes | bytearray) -> str:
    """Return the id of a card: a digest of its encoding."""
    return blake2b(encoded, digest_size=12).hexdigest()
