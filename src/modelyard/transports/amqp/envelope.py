"""What travels through the broker: bundles of requests, their answers, announcements.

MessagePack and its CRC-32, behind a version in the message's ``type``. Deadlines are wall-clock
time here: the one place where they leave the machine.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TypeVar
from zlib import crc32

import msgspec

from modelyard.core.errors import Failure
from modelyard.core.messages import Announcement, Form

T = TypeVar("T")

BUNDLE = "modelyard.bundle.1"
ANSWERS = "modelyard.answers.1"
REFUSAL = "modelyard.refusal.1"
ANNOUNCEMENT = "modelyard.announcement.1"
PING = "modelyard.ping.1"


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One request of a bundle. ``key`` is the gateway's own; ``deadline`` is a Unix time."""

    key: int
    id: str
    input: memoryview
    deadline: float
    form: Form = "json"


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one item: its predictions, or its failure."""

    key: int
    outcome: bytes | Failure


class News(msgspec.Struct, frozen=True):
    """What a worker says of itself.

    ``is_last``: it goes away. ``queue_lost_s``: so many seconds ago a queue of its target was
    deleted, and all that waited there.
    """

    worker: str
    announcement: Announcement
    is_last: bool = False
    queue_lost_s: float | None = None


CHECKSUM_BYTES = 4

_encoder = msgspec.msgpack.Encoder()


def encode(content: object) -> bytearray:
    """Give the body of a message."""
    body = bytearray()
    _encoder.encode_into(content, body)
    body += crc32(body).to_bytes(CHECKSUM_BYTES, "big")
    return body


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """Read the body of a message.

    Raises:
        msgspec.DecodeError: It is not what was sent, or cannot be read.
    """
    content = memoryview(body)[:-CHECKSUM_BYTES]
    if crc32(content) != int.from_bytes(body[-CHECKSUM_BYTES:], "big"):
        raise msgspec.DecodeError("it was damaged on its way")
    try:
        return decoder.decode(content)
    except (UnicodeDecodeError, RecursionError) as error:  # a stranger's
        raise msgspec.DecodeError(str(error)) from error


decode_bundle = partial(_decode, msgspec.msgpack.Decoder(list[Item]))
decode_answers = partial(_decode, msgspec.msgpack.Decoder(list[Answer]))
decode_refusal = partial(_decode, msgspec.msgpack.Decoder(Failure))
decode_news = partial(_decode, msgspec.msgpack.Decoder(News))


def wall_offset() -> float:
    """Give what turns a reading of this machine's monotonic clock into a Unix time, added."""
    return time.time() - time.monotonic()
