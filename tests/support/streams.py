"""Answers in pieces, as a client reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import msgspec

from tests.support.server import Member


class Event(NamedTuple):
    """One server-sent event: ``message``, ``end`` or ``error``."""

    kind: str
    data: Any


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """Read server-sent events."""
    kind, data = "message", ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
        elif not line and data:
            yield Event(kind, msgspec.json.decode(data))
            kind, data = "message", ""


@contextmanager
def open_stream(
    server: Member, model: str, instance: Any, **more: Any
) -> Iterator[tuple[httpx.Response, Iterator[Event]]]:
    """Ask for an answer in pieces; gives the response and its events as they come."""
    body = {"model_name": model, "input_data": [instance], **more}
    headers = {"accept": "text/event-stream"}
    with server.http.stream("POST", "/predict", json=body, headers=headers) as response:
        yield response, events_of(response.iter_lines())


def streamed(server: Member, model: str, instance: Any, **more: Any) -> list[Event]:
    """Ask for an answer in pieces, and read all of it."""
    with open_stream(server, model, instance, **more) as (response, events):
        assert response.status_code == 200, response.read()
        return list(events)


def whole(nonce: int, pieces: int = 3) -> list[Event]:
    """Give the events of an answer of ``stream_model``."""
    given = [Event("message", {"nonce": nonce, "number": n}) for n in range(pieces)]
    end = {"model_name": "stream_model", "model_version": "1", "pieces": pieces}
    return [*given, Event("end", end)]
