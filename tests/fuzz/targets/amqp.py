"""What a broker sends: the same events however it is cut, and an end where it cannot be parsed.

The first byte says how long the pieces are. If it is odd, the rest is made into frames: a byte for
the kind, one for the length, and the payload.
"""

from __future__ import annotations

from modelyard.transports.amqp.frames import CHANNEL, FRAME_END, FRAME_HEADER
from modelyard.transports.amqp.parser import Answer, Ended, Event, Parser

KINDS = (1, 2, 3, 8)  # method, header, body, heartbeat


def run(data: bytes) -> None:
    choice, sent = (data[0] if data else 0), data[1:]
    if choice & 1:
        sent = _framed(sent)
    whole, in_pieces = _events(sent, len(sent) or 1), _events(sent, 1 + choice // 2)
    assert list(map(_facts, whole)) == list(map(_facts, in_pieces))


def _framed(data: bytes) -> bytes:
    frames = []
    while data:
        kind, payload = KINDS[data[0] % len(KINDS)], data[2 : 2 + data[1]] if data[1:] else b""
        frames += [FRAME_HEADER.pack(kind, CHANNEL, len(payload)), payload, FRAME_END]
        data = data[2 + len(payload) :]
    return b"".join(frames)


def _events(sent: bytes, step: int) -> list[Event]:
    """Return the events up to the end of the connection."""
    parser, events = Parser(), list[Event]()
    for start in range(0, len(sent), step):
        for event in parser.feed(sent[start : start + step]):
            events.append(event)
            if isinstance(event, Ended):
                return events
    return events


def _facts(event: Event) -> str:
    """Return what an event says; a text, since NaN does not equal itself."""
    if isinstance(event, Ended) and "cannot be parsed" in event.why:
        return "damage"  # its text has the addresses of objects
    said = dict(event.method) if isinstance(event, Answer) else event
    return f"{type(event).__name__} {said!r}"
