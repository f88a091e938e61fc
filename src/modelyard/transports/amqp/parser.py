"""Parses what the broker sends, without I/O: bytes in, events out.

``connection.py`` feeds it and acts on the events. Frames that come with every message are read by
``frames.py``, all others by pamqp.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, cast

from pamqp import base, commands, frame
from pamqp.exceptions import PAMQPException
from pamqp.heartbeat import Heartbeat

from modelyard.transports.amqp import frames
from modelyard.transports.amqp.frames import Properties

LARGEST_FRAME_BYTES = 131_072
_OFTEN = (frames.DELIVER, frames.CONFIRM)


class Message(NamedTuple):
    """A message from a queue. ``tag`` is for ``ack``."""

    consumer: str
    tag: int
    is_redelivered: bool
    properties: Properties
    body: bytes


class Returned(NamedTuple):
    """A published message that was returned for lack of a queue; ``number`` is its own."""

    number: int
    why: str


class Confirmed(NamedTuple):
    """The broker has accepted a published message, or rejected it.

    ``is_multiple``: the same holds for all earlier messages.
    """

    number: int
    is_multiple: bool
    is_taken: bool


class Answer(NamedTuple):
    """The answer to a method call."""

    method: base.Frame


class Got(NamedTuple):
    """A message that was fetched by ``basic.get``; ``waiting``: how many are left in the queue."""

    tag: int
    waiting: int
    properties: Properties
    body: bytes


class Blocked(NamedTuple):
    """An alarm: the broker accepts no messages, being short of memory or disk; or its end."""

    is_blocked: bool
    why: str = ""


class Ended(NamedTuple):
    """The connection is lost. ``is_cancelled``: because a queue that we consume was deleted."""

    why: str
    is_cancelled: bool = False


Event = Message | Returned | Confirmed | Answer | Got | Blocked | Ended


class Parser:
    """Splits received bytes into frames, and turns frames into events.

    Attributes:
        frames: Number of complete frames received.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._received = bytearray()
        self._content: frames.DeliverMethod | commands.Basic.Return | commands.Basic.GetOk | None
        self._content = None
        self._properties = Properties()
        self._body: list[bytes] = []
        self._body_left = 0
        self._delivered = 0  # tag of the last message

    @property
    def is_partial(self) -> bool:
        """Whether a frame has begun, but is not complete."""
        return bool(self._received)

    def feed(self, data: bytes) -> list[Event]:
        """Return the events in ``data``. Do not call it again after ``Ended``."""
        events: list[Event] = []
        if self._received:
            self._received += data
            data = bytes(self._received)
        position, header_bytes = 0, frames.FRAME_HEADER.size
        try:
            while len(data) - position >= header_bytes:
                kind, _, size = frames.FRAME_HEADER.unpack_from(data, position)
                end = position + header_bytes + size
                if size > LARGEST_FRAME_BYTES:
                    raise ValueError(f"a frame of {size} bytes")
                if len(data) <= end:
                    break
                if data[end : end + 1] != frames.FRAME_END:
                    raise ValueError("a frame without its end")
                if kind == frames.BODY:
                    event = self._on_body(data[position + header_bytes : end])
                elif kind == frames.HEADER:
                    event = self._on_header(data[position : end + 1])
                elif kind == frames.METHOD and data.startswith(_OFTEN, position + header_bytes):
                    event = self._on_often(data[position + header_bytes : end])
                else:
                    event = self._on_frame(frame.unmarshal(data[position : end + 1])[2])
                    if isinstance(event, Ended):  # whatever follows is of no use
                        events.append(event)
                        break
                if event is not None:
                    events.append(event)
                position = end + 1
                self.frames += 1
        except (PAMQPException, ValueError, LookupError, TypeError, struct.error) as error:
            events.append(Ended(f"what the broker sent cannot be parsed: {error!r}"))
        self._received = bytearray(data[position:])
        return events

    def _on_often(self, payload: bytes) -> Event | None:
        """Read the methods that come with every message."""
        if payload.startswith(frames.DELIVER):
            self._content = frames.read_delivery(payload)
            return None
        number, is_multiple = frames.read_confirm(payload)
        return Confirmed(number, is_multiple, is_taken=True)

    def _on_frame(self, received: frame.FrameTypes) -> Event | None:
        event: Event | None = None
        match received:
            case commands.Basic.Return() | commands.Basic.GetOk():
                self._content = received
            case commands.Basic.Nack():
                number = received.delivery_tag or 0
                event = Confirmed(number, received.multiple, is_taken=False)
            case commands.Connection.Close() | commands.Channel.Close():
                event = Ended(f"{received.reply_code} {received.reply_text}")
            case commands.Connection.CloseOk():
                event = Ended("closed")
            case commands.Basic.Cancel():
                event = Ended("a queue that we consume was deleted", is_cancelled=True)
            case commands.Connection.Blocked():
                event = Blocked(is_blocked=True, why=received.reason)
            case commands.Connection.Unblocked():
                event = Blocked(is_blocked=False)
            case Heartbeat():
                pass
            case _:
                event = Answer(cast("base.Frame", received))
        return event

    def _on_header(self, data: bytes) -> Event | None:
        self._body_left, self._properties = frames.read_header(data)
        return None if self._body_left else self._on_content()

    def _on_body(self, piece: bytes) -> Event | None:
        self._body.append(piece)
        self._body_left -= len(piece)
        return self._on_content() if self._body_left <= 0 else None

    def _on_content(self) -> Event:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        content, properties = self._content, self._properties
        if isinstance(content, frames.DeliverMethod):
            tag, is_redelivered = content.tag, content.is_redelivered
            self._see_that_none_is_missing(tag)
            return Message(content.consumer_tag, tag, is_redelivered, properties, body)
        if isinstance(content, commands.Basic.GetOk):
            tag = content.delivery_tag or 0
            self._see_that_none_is_missing(tag)
            return Got(tag, content.message_count or 0, properties, body)
        if content is None:
            raise ValueError("content without its method")
        return Returned(int(properties.message_id or 0), content.reply_text or "")

    def _see_that_none_is_missing(self, tag: int) -> None:
        """The broker numbers deliveries without gaps. One that did not arrive would stay unacked,
        and use up the prefetch, as long as the connection lasts.
        """
        if tag != self._delivered + 1:
            raise ValueError(f"delivery {tag} came after {self._delivered}")
        self._delivered = tag
