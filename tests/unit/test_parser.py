"""What the broker sends: the same events however it is cut, and an end where it cannot be read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from modelyard.transports.amqp import frames
from modelyard.transports.amqp.frames import CHANNEL, Properties
from modelyard.transports.amqp.parser import (
    LARGEST_FRAME_BYTES,
    Answer,
    Blocked,
    Confirmed,
    Ended,
    Event,
    Got,
    Message,
    Parser,
    Returned,
)

words = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20)
names = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20)
tags = st.integers(1, 2**63 - 1)
bodies = st.binary(max_size=60)
maybe = names | st.none()
properties = st.builds(Properties, maybe, maybe, st.none(), st.none(), names, st.none(), maybe)


def method(said: Frame) -> bytes:
    """Give the frame of a method."""
    return frame.marshal(said, 0 if said.name.startswith("Connection.") else CHANNEL)


def content(found: Properties, body: bytes, step: int) -> bytes:
    """Give the frames of what comes behind a method: header, and body in pieces."""
    pieces = b"".join(map(bytes, frames.body_frames(body, step)))
    return frames.header_frame(found, len(body)) + pieces


@st.composite
def said(draw: st.DrawFn, number: int = 1) -> tuple[bytes, Event | None]:
    """Something that a broker may say, and the event that it is; ``number``: of a delivery."""
    kind = draw(st.integers(0, 7))
    tag, text, body = draw(tags), draw(words), draw(bodies)
    is_true, found, step = draw(st.booleans()), draw(properties), draw(st.integers(1, 60))
    event: Event | None = None
    if kind == 0:
        deliver = commands.Basic.Deliver(text, number, is_true, "", "")
        raw = method(deliver) + content(found, body, step)
        event = Message(text, number, is_true, found, body)
    elif kind == 1:
        raw, event = method(commands.Basic.Ack(tag, is_true)), Confirmed(tag, is_true, True)
    elif kind == 2:
        nack = commands.Basic.Nack(tag, is_true, requeue=False)
        raw, event = method(nack), Confirmed(tag, is_true, is_taken=False)
    elif kind == 3:
        returned = commands.Basic.Return(312, text, "", "")
        raw = method(returned) + content(found._replace(message_id="5"), body, step)
        event = Returned(5, text)
    elif kind == 4:
        get_ok = commands.Basic.GetOk(number, is_true, "", "", 7)
        raw, event = method(get_ok) + content(found, body, step), Got(number, 7, found, body)
    elif kind == 5:
        blocked = commands.Connection.Blocked(text) if is_true else commands.Connection.Unblocked()
        raw, event = method(blocked), Blocked(is_true, text if is_true else "")
    elif kind == 6:
        raw = Heartbeat().marshal()
    else:
        answer = commands.Queue.DeclareOk("queue", draw(st.integers(0, 9)), 4)
        raw, event = method(answer), Answer(answer)
    return raw, event


@st.composite
def speeches(draw: st.DrawFn) -> list[tuple[bytes, Event | None]]:
    """Several of them, in which deliveries are numbered."""
    told: list[tuple[bytes, Event | None]] = []
    for _ in range(draw(st.integers(0, 8))):
        delivered = sum(isinstance(event, Message | Got) for _, event in told)
        told.append(draw(said(delivered + 1)))
    return told


def comparable(events: list[Event]) -> list[object]:
    """pamqp's objects are equal to themselves only."""
    return [dict(e.method) if isinstance(e, Answer) else e for e in events]


@given(speeches(), st.data())
def test_events_are_the_same_however_what_is_sent_is_cut(
    told: list[tuple[bytes, Event | None]], data: st.DataObject
) -> None:
    stream = b"".join(raw for raw, _ in told)
    step = data.draw(st.integers(1, max(1, len(stream))))
    parser, events = Parser(), list[Event]()
    for start in range(0, len(stream), step):
        events += parser.feed(stream[start : start + step])
    expected = [event for _, event in told if event is not None]
    assert comparable(events) == comparable(expected)
    assert not parser.is_partial
    whole = Parser()
    whole.feed(stream)
    assert whole.frames == parser.frames


@given(said(), st.data())
def test_a_frame_is_partial_until_its_end_has_come(
    told: tuple[bytes, Event | None], data: st.DataObject
) -> None:
    raw, _ = told
    parser = Parser()
    cut = data.draw(st.integers(1, len(raw) - 1))
    before = parser.feed(raw[:cut])
    is_partial = parser.is_partial
    after = parser.feed(raw[cut:])
    assert len(before) + len(after) <= 1
    assert not parser.is_partial
    assert is_partial == (cut not in frame_ends(raw))


def frame_ends(raw: bytes) -> set[int]:
    ends, position = set(), 0
    while position < len(raw):
        _, _, size = frames.FRAME_HEADER.unpack_from(raw, position)
        position += frames.FRAME_HEADER.size + size + 1
        ends.add(position)
    return ends


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pamqp")  # a byte made it an old method
@settings(max_examples=500)
@given(st.lists(said(), min_size=1, max_size=3), st.data())
def test_whatever_is_damaged_the_parser_says_so_and_raises_nothing(
    told: list[tuple[bytes, Event | None]], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(raw for raw, _ in told))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    events = Parser().feed(bytes(stream))
    assert [event for event in events if isinstance(event, Ended)] in ([], events[-1:])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pamqp")
@given(st.binary(max_size=200))
def test_what_is_no_amqp_raises_nothing(raw: bytes) -> None:
    for event in Parser().feed(raw)[:-1]:
        assert not isinstance(event, Ended)


@pytest.mark.parametrize(
    ("closing", "why", "is_cancelled"),
    [
        (commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0), "320 CONNECTION_FORCED", False),
        (commands.Channel.Close(404, "NOT_FOUND", 0, 0), "404 NOT_FOUND", False),
        (commands.Connection.CloseOk(), "closed", False),
        (commands.Basic.Cancel("tag"), "a queue that we consume was deleted", True),
    ],
)
def test_an_end_says_why(closing: Frame, why: str, is_cancelled: bool) -> None:
    more = frames.body_frame(b"x")  # which would not make sense
    assert Parser().feed(method(closing) + more) == [Ended(why, is_cancelled)]


@pytest.mark.parametrize(
    "raw",
    [
        frames.FRAME_HEADER.pack(frames.BODY, CHANNEL, LARGEST_FRAME_BYTES + 1),
        frames.body_frame(b"x")[:-1] + b"\0",
        frames.header_frame(Properties(), 0),  # content without its method
        frames.body_frame(b"x"),
        frames.FRAME_HEADER.pack(9, CHANNEL, 0) + frames.FRAME_END,
        b"AMQP\0\0\x09\x01" + bytes(8),
        method(commands.Basic.Return(312, "", "", ""))
        + content(Properties(message_id="five"), b"", 1),
    ],
)
def test_what_makes_no_sense_ends_the_connection(raw: bytes) -> None:
    (event,) = Parser().feed(raw)
    assert isinstance(event, Ended)
    assert event.why.startswith("what the broker sent cannot be parsed")


def test_a_message_whose_properties_somebody_else_wrote_is_read() -> None:
    header = ContentHeader(body_size=0, properties=commands.Basic.Properties(headers={"a": 1}))
    deliver = method(commands.Basic.Deliver("tag", 1, False, "", ""))
    (event,) = Parser().feed(deliver + frame.marshal(header, CHANNEL))
    assert event == Message("tag", 1, False, Properties(), b"")


def test_a_header_that_ends_early_ends_the_connection() -> None:
    short = struct.pack(">BHI", frames.HEADER, CHANNEL, 4) + b"\0\x3c\0\0" + frames.FRAME_END
    (event,) = Parser().feed(short)
    assert isinstance(event, Ended)
