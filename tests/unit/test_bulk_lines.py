"""Lines of a file of requests: one that cannot be answered fails, and keeps nobody waiting."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from modelyard.core.errors import RequestError
from modelyard.gateway.embeddings import EmbeddingsDoor
from modelyard.gateway.openai_lines import make_asker
from modelyard.jobs.bulk.order import Mark, Order
from modelyard.jobs.bulk.pieces import Piece
from modelyard.jobs.bulk.room import Room, Window
from modelyard.jobs.job import Leased
from tests.unit.asking import Asking, Clock, announcement

LINE = b"""[{"custom_id": "a", "url": "/v1/embeddings", "body": {"model": "iris", "input": "x"}}]"""


@pytest.mark.parametrize("method", ["read", "answer"])
async def test_a_door_that_raises_fails_its_line_alone(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    asking = Asking(clock)
    asking.catalog.announce(announcement())
    nobody: dict[str, Any] = dict.fromkeys(("uid", "id", "tenant", "owner", "key"), "")
    first: dict[str, Any] = dict.fromkeys(("attempt", "failures", "max_attempts"), 1)
    of_iris: dict[str, Any] = {"model": "iris", "version": None, "form": "json", "door": "bulk"}
    job = Leased(input=b"", echo="", timeout_s=None, **nobody, **first, **of_iris)
    window = Window()
    room = Room(asking.dispatch, job, window, lambda: False, is_single=True)
    order = Order(input="x", format="jsonl", output_format="jsonl", endpoint="/v1/embeddings")
    asker, _ = make_asker(asking.dispatch, clock, order, job, room)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(EmbeddingsDoor, "check", lambda *_: None)
    monkeypatch.setattr(EmbeddingsDoor, method, fail)
    piece = Piece(numbers=[0], body=LINE, bad=(), mark=Mark(row=1))
    with caplog.at_level(logging.ERROR):
        answer = asker.send(piece)
        for call in asking.transport.calls:
            call.settle(b"[[1.0]]")
        outcome, _ = await answer
    assert isinstance(outcome, RequestError)
    assert outcome.code == "internal"
    assert (window.sent, len(caplog.records)) == (0, 1)
    answered = await asker.settle(piece, outcome, 0.0)
    assert [(one.row, one.code) for one in answered.failed] == [(0, "internal")]
