"""What ``doctor`` tries at a broker, on a real one and on the one in memory."""

from __future__ import annotations

import asyncio
import time
from typing import get_args

import pytest

from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.announcer import publish_status
from modelyard.transports.amqp.topology import HELLO, declare_exchanges, declare_own_queue
from modelyard.transports.amqp.trial import Role, Seen, Trial
from tests.simulation.operators import Client, Inbox

AHEAD_S = 100.0


async def tried(client: Client, role: Role, *, largest_bytes: int | None = None) -> Seen:
    us = client.as_part(client.queue)
    return await Trial(us, us.addresses[0], role=role, largest_bytes=largest_bytes).run()


@pytest.mark.parametrize("role", get_args(Role))
async def test_a_broker_that_lets_us_do_all_is_told_so(client: Client, role: Role) -> None:
    seen = await tried(client, role, largest_bytes=300_000)
    assert seen.product.startswith(("RabbitMQ ", "InMemoryBroker"))
    assert (seen.refused, seen.is_blocked, seen.heard) == ([], False, {})


async def test_workers_that_answer_are_heard(client: Client) -> None:
    worker = await client.connect()
    await declare_exchanges(worker)
    queue = await declare_own_queue(worker, f"{client.queue}.hello", [(HELLO, "")])
    status = envelope.Status(
        worker="w1",
        host="here",
        target=Target("iris", "1"),
        card="c",
        state="ready",
        reason="",
        runners=1,
        runners_ready=1,
        queued=0,
        at=time.time() + AHEAD_S,
    )
    heard = asyncio.create_task(tried(client, "gateway"))
    inbox = Inbox()
    await worker.consume(queue, inbox, no_ack=True)
    await inbox.holds(1)
    await publish_status(worker, status)
    (found,) = (await heard).heard.values()
    assert found.status == status
    assert found.ahead_s == pytest.approx(AHEAD_S, abs=AHEAD_S / 2)


async def test_a_broker_that_takes_no_messages_is_told_so(client: Client) -> None:
    await client.operator.set_alarm(True)
    try:
        seen = await tried(client, "worker")
    finally:
        await client.operator.set_alarm(False)
    assert seen.is_blocked
    assert seen.refused == []
