"""What cannot be read, or comes out of order, harms itself alone."""

from __future__ import annotations

import asyncio
import random
import time
from zlib import crc32

import pytest
from pamqp import commands

from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.connection import Connection
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.opening import open_connection
from modelyard.transports.amqp.topology import (
    REPLIES,
    REQUESTS,
    declare_exchanges,
    declare_own_queue,
)
from tests.support.broker import Broker
from tests.support.cluster import QUEUE, Cluster, events, sessions_lost
from tests.support.ledger import answer_of
from tests.support.proxy import Proxy
from tests.support.server import wait_until


async def connect(url: str) -> Connection:
    return await open_connection(
        parse_addresses(url)[0],
        name="test",
        confirm_timeout_s=60,
        on_lost=lambda why: None,
        clock=time.monotonic,
    )


@pytest.mark.own_broker
async def test_a_message_that_cannot_be_read_does_not_keep_others_from_being_served(
    cluster: Cluster,
) -> None:
    with Proxy(cluster.broker.port) as proxy:
        proxy.to_server.corrupt_after(b"a mark ", 0xFF)  # so that it is no UTF-8
        stranger = await connect(cluster.broker.url_through(proxy.port))
        await stranger.confirm_publishing()
        await stranger.publish(
            b"",
            exchange=REQUESTS,
            routing_key=QUEUE,
            properties=Properties(correlation_id="a mark ?"),
        )
        await stranger.close()
        assert proxy.to_server.corrupted == 1
    answers = [await asyncio.to_thread(cluster.ask, nonce, timeout_s=5) for nonce in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5


async def test_a_bundle_that_is_no_text_where_text_should_be_harms_itself_alone(
    cluster: Cluster,
) -> None:
    body = envelope.encode([[1, "id", b"[]", 0.0]]).replace(b"id", b"\xff\xff")[:-4]
    stranger = await connect(cluster.broker.url)
    await stranger.confirm_publishing()
    await stranger.publish(
        bytes(body) + crc32(body).to_bytes(4, "big"),
        exchange=REQUESTS,
        routing_key=QUEUE,
        properties=Properties(message_type=envelope.BUNDLE),
    )
    (worker,) = cluster.workers
    await asyncio.to_thread(wait_until, lambda: events("refused", worker) == 1, what="its refusal")
    answer = await asyncio.to_thread(cluster.ask, 1)
    assert answer.json()["prediction"] == [answer_of(1)]
    assert sessions_lost(worker) == 0
    await stranger.close()


async def test_messages_of_any_size_come_as_they_were_sent(broker: Broker) -> None:
    connection, came = await connect(broker.url), asyncio.Queue[bytes]()
    await connection.confirm_publishing()
    await declare_exchanges(connection)
    queue = await declare_own_queue(connection, "replies.sizes", [(REPLIES, "replies.sizes")])
    await connection.consume(queue, lambda message: came.put_nowait(message.body), no_ack=True)
    frame_bytes = 128 * 1024 - 8  # what RabbitMQ takes in one frame, less what is around it
    for size in (0, 1, 0, frame_bytes, frame_bytes + 1, 3 * frame_bytes, 1_000_000, 0):
        body = random.randbytes(size)
        properties = Properties(message_type="test")
        await connection.publish(body, exchange=REPLIES, routing_key=queue, properties=properties)
        assert await came.get() == body
    await connection.close()


async def test_what_is_asked_at_the_same_time_gets_its_own_answer(broker: Broker) -> None:
    for number in range(50):
        connection = await connect(broker.url)
        queue = f"test.{number}"
        await connection.call(commands.Queue.Declare(queue=queue, exclusive=True))
        # The broker answers the second before the first, as often as not.
        _, declared = await asyncio.gather(
            connection.consume(queue, lambda message: None),
            connection.call(commands.Queue.Declare(queue=queue, passive=True)),
        )
        assert isinstance(declared, commands.Queue.DeclareOk)
        await connection.close()


async def test_inputs_that_hang_do_not_teach_patience_with_the_next_one(cluster: Cluster) -> None:
    for nonce in range(2):
        late = await asyncio.to_thread(cluster.ask, nonce, act="hang", timeout_s=1)
        assert late.status_code == 504
        good = await asyncio.to_thread(cluster.ask, nonce)
        assert good.status_code == 200
    hung = asyncio.create_task(asyncio.to_thread(cluster.ask, 3, act="hang", timeout_s=1))
    (worker,) = cluster.workers
    await asyncio.to_thread(
        wait_until,
        lambda: worker.metric("modelyard_queue_wait_seconds_count") == 5,
        what="it to run",
    )
    good = await asyncio.to_thread(cluster.ask, 4, timeout_s=8)
    assert (await hung).status_code == 504
    assert good.status_code == 200
