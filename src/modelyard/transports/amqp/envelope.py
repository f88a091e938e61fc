"""What travels through the broker: bundles of requests, their answers, announcements.

MessagePack behind a version in the message's ``type``. Deadlines are wall-clock time here: the one
place where they leave the machine.
"""

from __future__ import annotations

import time

import msgspec

from modelyard.core.errors import Failure
from modelyard.core.messages import Announcement

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


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one item: the JSON of its predictions, or its failure."""

    key: int
    outcome: bytes | Failure


class News(msgspec.Struct, frozen=True):
    """What a worker says of itself; ``is_last``: it goes away."""

    worker: str
    announcement: Announcement
    is_last: bool = False


encode = msgspec.msgpack.Encoder().encode
decode_bundle = msgspec.msgpack.Decoder(list[Item]).decode
decode_answers = msgspec.msgpack.Decoder(list[Answer]).decode
decode_refusal = msgspec.msgpack.Decoder(Failure).decode
decode_news = msgspec.msgpack.Decoder(News).decode


def to_wall(deadline: float) -> float:
    """Turn a reading of this machine's monotonic clock into a Unix time."""
    return deadline - time.monotonic() + time.time()


def from_wall(deadline: float) -> float:
    """Turn a Unix time into what this machine's monotonic clock will read then."""
    return deadline - time.time() + time.monotonic()
