"""Shadows: copies that answer nobody, and harm nobody."""

from __future__ import annotations

import time

import pytest

from modelyard.core.errors import ModelCrashed, Overloaded
from modelyard.core.names import Target
from modelyard.core.routes import Route, Shadow, Snapshot
from tests.unit.asking import Asking, Clock, announcement, settle

MAIN, OTHER = Target("iris", "1"), Target("iris", "2")


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    asking = Asking(clock)
    for target in (MAIN, OTHER):
        asking.catalog.announce(announcement(target, ttl_s=0))
    shadowing(asking)
    return asking


def shadowing(asking: Asking, percent: float = 100) -> None:
    route = Route({"1": 100}, shadow=Shadow("2", percent))
    asking.catalog.router.replace(Snapshot(int(percent), {"iris": route}))


def sent_to(asking: Asking) -> list[str]:
    return [request.target.version for request in asking.transport.requests]


@pytest.mark.parametrize(
    ("copy", "result"),
    [
        (b"[7]", "same"),
        (b"[7.0000001]", "same"),
        (b"[8]", "different"),
        (b'{"a":7}', "different"),
        (ModelCrashed("it did"), "failed"),
    ],
)
async def test_a_copy_is_compared_and_answers_nobody(
    asking: Asking, copy: bytes | ModelCrashed, result: str
) -> None:
    task = await asking.ask(b"[1]")
    assert sent_to(asking) == ["2", "1"]
    copied, original = asking.transport.requests
    assert (bytes(copied.input), copied.priority) == (b"[1]", "low")
    assert original.priority == "normal"
    await asking.answer(0, copy)
    assert not task.done()
    await asking.answer(1, b"[7]")
    assert task.result().output == b"[7]"
    assert asking.metrics.shadows == [("2", result)]


async def test_an_answer_does_not_wait_for_its_shadow(asking: Asking) -> None:
    task = await asking.ask(b"[1]")
    await asking.answer(1, b"[7]")
    assert task.done()
    await asking.let_time_pass(100)  # the copy has a deadline of its own
    while not asking.metrics.shadows:
        await settle()
    assert asking.metrics.shadows == [("2", "failed")]
    entry = asking.catalog.find(OTHER)
    assert entry is not None
    assert entry.in_flight == 0


async def test_a_copy_for_which_there_is_no_room_is_dropped(asking: Asking) -> None:
    asking.catalog.announce(announcement(OTHER, ttl_s=0, max_in_flight=1))
    tasks = [await asking.ask(b"[1]"), await asking.ask(b"[2]")]
    assert sent_to(asking) == ["2", "1", "1"]
    assert asking.metrics.shadows == [("2", "dropped")]
    await asking.answer(1, Overloaded("full"))
    await asking.answer(2, b"[7]")
    assert all(task.done() for task in tasks)


async def test_a_request_for_which_there_is_no_room_is_not_copied(asking: Asking) -> None:
    asking.catalog.announce(announcement(MAIN, ttl_s=0, max_in_flight=1))
    await asking.ask(b"[1]")
    refused = await asking.ask(b"[2]")
    assert isinstance(refused.exception(), Overloaded)
    assert sent_to(asking) == ["2", "1"]


async def test_a_share_of_requests_is_copied(asking: Asking) -> None:
    shadowing(asking, percent=20)
    for number in range(500):
        await asking.ask(b"[%d]" % number)
    copies = sent_to(asking).count("2")
    assert 60 < copies < 140
    asking.catalog.announce(announcement(OTHER, ttl_s=0, state="failed"))
    before = len(sent_to(asking))
    await asking.ask(b"[1]")
    assert len(sent_to(asking)) == before + 1
