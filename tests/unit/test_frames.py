"""Frames written and read by hand: as pamqp would, and whatever may come."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.header import ContentHeader

from modelyard.transports.amqp import frames
from modelyard.transports.amqp.frames import CHANNEL, DeliverMethod, Properties

PAYLOAD = slice(frames.FRAME_HEADER.size, -1)

words = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=60)
tags = st.integers(min_value=1, max_value=2**63 - 1)
properties = st.builds(
    Properties,
    words | st.none(),
    words | st.none(),
    words | st.none(),
    words | st.none(),
    words,
    words | st.none(),
    words | st.none(),
)


def as_pamqp(ours: Properties) -> commands.Basic.Properties:
    return commands.Basic.Properties(**{k: v for k, v in ours._asdict().items() if v is not None})


@given(properties, st.integers(min_value=0, max_value=2**40))
def test_headers_are_what_pamqp_writes_and_come_back(ours: Properties, body_bytes: int) -> None:
    written = frames.header_frame(ours, body_bytes)
    header = ContentHeader(body_size=body_bytes, properties=as_pamqp(ours))
    assert written == frame.marshal(header, CHANNEL)
    assert frames.read_header(written) == (body_bytes, ours)


@given(properties, st.integers(min_value=1, max_value=9))
def test_somebody_else_s_properties_are_read_too(ours: Properties, priority: int) -> None:
    theirs = as_pamqp(ours)
    theirs.priority, theirs.headers = priority, {"a": 1}
    written = frame.marshal(ContentHeader(body_size=7, properties=theirs), CHANNEL)
    assert frames.read_header(written) == (7, ours)


@given(properties, st.data())
def test_a_damaged_header_has_its_size_and_no_properties_or_wrong_ones(
    ours: Properties, data: st.DataObject
) -> None:
    written = bytearray(frames.header_frame(ours, 7))
    first = frames.FRAME_HEADER.size + 12  # behind class, weight and size
    place = data.draw(st.integers(min_value=first, max_value=len(written) - 2))
    written[place] = data.draw(st.integers(min_value=0, max_value=255))
    body_bytes, found = frames.read_header(bytes(written))
    assert body_bytes == 7
    assert all(value is None or isinstance(value, str) for value in found)


def test_a_header_that_is_cut_short_ends_the_session() -> None:
    with pytest.raises(struct.error):
        frames.read_header(frames.header_frame(Properties(), 7)[:12])


@given(words, tags, st.booleans())
def test_deliveries(consumer: str, tag: int, is_redelivered: bool) -> None:
    deliver = commands.Basic.Deliver(
        consumer_tag=consumer,
        delivery_tag=tag,
        redelivered=is_redelivered,
        exchange="modelyard.requests",
        routing_key="infer",
    )
    payload = frame.marshal(deliver, CHANNEL)[PAYLOAD]
    assert payload.startswith(frames.DELIVER)
    assert frames.read_delivery(payload) == DeliverMethod(consumer, tag, is_redelivered)


@given(tags, st.booleans())
def test_confirms_and_acks(tag: int, is_multiple: bool) -> None:
    ack = commands.Basic.Ack(delivery_tag=tag, multiple=is_multiple)
    payload = frame.marshal(ack, CHANNEL)[PAYLOAD]
    assert payload.startswith(frames.CONFIRM)
    assert frames.read_confirm(payload) == (tag, is_multiple)
    if not is_multiple:
        assert frames.ack_frame(tag) == frame.marshal(ack, CHANNEL)


def test_publishing() -> None:
    method = commands.Basic.Publish(exchange="x", routing_key="k", mandatory=True)
    assert frames.publish_frame("x", "k", is_mandatory=True) == frame.marshal(method, CHANNEL)
