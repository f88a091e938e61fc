"""What a gateway and its payload writer tell each other: MessagePack, with its length before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from modelyard.core.messages import Form
from modelyard.payloads.config import Config

LENGTH_BYTES = 4

T = TypeVar("T")


class Begin(msgspec.Struct, frozen=True):
    """Gateway to writer, first of all: what to do. ``name``: of the writer, in files' names."""

    config: Config
    name: str


class Brought(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Gateway to writer: the reference that a version of a model has brought: the JSON of a
    ``drift.reference.Profile``, or nothing if it brings none any longer.
    """

    model: str
    version: str
    profile: bytes


class Handed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Gateway to writer: one request that was answered.

    ``at``: Unix time of its answer. ``code``: ``ok`` or that of the problem. ``form``: of ``input``
    and ``output``, which are as they came; both are empty if ``is_too_large``. ``key``: the id of
    the caller's key, and ``owner`` whose it is.
    """

    id: str
    model: str
    version: str
    at: float
    latency_s: float
    code: str
    cache_use: str
    form: Form
    key: str
    owner: str
    is_too_large: bool
    input: memoryview
    output: memoryview


class Drifted(msgspec.Struct, frozen=True, array_like=True):
    """How a feature compares in the last window; see ``drift/comparing.py``."""

    name: str
    psi: float
    ks: float
    missing: float
    outside: float
    new: float
    p: float
    has_drifted: bool


class Window(msgspec.Struct, frozen=True, array_like=True):
    """Writer to gateway: how a window of a target compares with its reference. ``at``: Unix time of
    its end.
    """

    model: str
    version: str
    at: float
    rows: int
    features: list[Drifted]


class Report(msgspec.Struct, frozen=True):
    """Writer to gateway: what has become of records since it began.

    ``kept``: how many are where they belong. ``dropped``: how many will never be, by reason.
    ``trouble``: why nothing can be kept at the moment; empty if all is well. ``windows``: that have
    ended since the last report.
    """

    kept: int = 0
    dropped: dict[str, int] = {}
    trouble: str = ""
    windows: list[Window] = []


_encoder = msgspec.msgpack.Encoder()


def add_frame(buffer: bytearray, message: msgspec.Struct) -> None:
    """Append a message's frame."""
    at = len(buffer)
    buffer += bytes(LENGTH_BYTES)
    _encoder.encode_into(message, buffer, at + LENGTH_BYTES)
    size = len(buffer) - at - LENGTH_BYTES
    buffer[at : at + LENGTH_BYTES] = size.to_bytes(LENGTH_BYTES, "big")


def take_frames(received: bytearray, decoder: msgspec.msgpack.Decoder[T]) -> Iterator[T]:
    """Give the messages that are complete, and remove them."""
    at = 0
    try:
        while len(received) >= (begin := at + LENGTH_BYTES):
            end = begin + int.from_bytes(received[at:begin], "big")
            if len(received) < end:
                return
            at = end
            yield decoder.decode(bytes(received[begin:end]))
    finally:
        del received[:at]
