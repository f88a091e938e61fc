"""What the simulator takes for granted of RabbitMQ, on a real one and on the one in memory."""

from __future__ import annotations

import asyncio

import pytest
from pamqp import commands

from modelyard.transports.amqp.confirms import (
    BlockedError,
    ConnectionLostError,
    NackedError,
    ReturnedError,
)
from modelyard.transports.amqp.frames import Properties
from tests.simulation.operators import SOON_S, Client, consume, refused, until


async def test_what_no_queue_takes_comes_back_if_that_is_asked(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    with pytest.raises(ReturnedError):
        await client.publish(connection, b"1", key="nobody's")
    unasked = connection.publish(
        b"2",
        exchange=client.exchange,
        routing_key="nobody's",
        properties=Properties(),
        is_mandatory=False,
    )
    await unasked
    await client.publish(connection, b"3")
    assert await client.count(connection) == (1, 0)


async def test_messages_come_in_order_with_all_that_stands_on_them(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    properties = Properties(
        correlation_id="c", reply_to="r", message_type="t", app_id="ä", expiration="60000"
    )
    bodies = [b"", b"x", bytes(300_000)]
    for body in bodies:
        await connection.publish(
            body, exchange=client.exchange, routing_key="k", properties=properties
        )
    inbox, _ = await consume(connection, queue)
    await inbox.holds(3)
    assert inbox.bodies == bodies
    given = [message.properties._replace(message_id=None) for message in inbox.messages]
    assert given == [properties] * 3
    assert not any(message.is_redelivered for message in inbox.messages)


async def test_a_consumer_has_no_more_than_its_prefetch(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    await client.publish(connection, *(b"%d" % n for n in range(5)))
    inbox, _ = await consume(connection, queue, prefetch=2)
    await inbox.holds(2)
    await asyncio.sleep(SOON_S)
    assert inbox.bodies == [b"0", b"1"]
    connection.ack(inbox.messages[0].tag)
    await inbox.holds(3)
    assert await client.count(connection) == (2, 1)


async def test_consumers_are_served_in_turn(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    first, _ = await consume(connection, queue)
    second, _ = await consume(await client.connect(), queue)
    for number in range(6):
        await client.publish(connection, b"%d" % number)
        await until(lambda: len(first.bodies) + len(second.bodies) > number)  # noqa: B023
    assert len(first.bodies) == len(second.bodies) == 3


async def test_what_is_given_back_comes_again_before_what_is_newer(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    await client.publish(connection, b"0", b"1", b"2")
    inbox, _ = await consume(connection, queue, prefetch=1)
    await inbox.holds(1)
    connection.nack(inbox.messages[0].tag)
    await inbox.holds(2)
    assert inbox.bodies == [b"0", b"0"]
    assert [message.is_redelivered for message in inbox.messages] == [False, True]


@pytest.mark.parametrize("is_polite", [True, False])
async def test_what_a_lost_connection_had_comes_again_first(
    client: Client, is_polite: bool
) -> None:
    connection, other = await client.connect(), await client.connect()
    queue = await client.declare(connection)
    await client.publish(connection, b"0", b"1", b"2")
    inbox, _ = await consume(other, queue, prefetch=2)
    await inbox.holds(2)
    await other.close(is_polite=is_polite)
    await client.counted(connection, (3, 0))
    again, _ = await consume(connection, queue)
    await again.holds(3)
    assert again.bodies == [b"0", b"1", b"2"]
    assert [message.is_redelivered for message in again.messages] == [True, True, False]


async def test_a_message_expires_only_at_the_head_of_its_queue(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    await client.publish(connection, b"long")
    await client.publish(connection, b"short", expires_ms=50)
    await asyncio.sleep(SOON_S)
    assert await client.count(connection) == (2, 0)
    got = await connection.get(client.queue)
    assert got is not None
    assert got.body == b"long"
    assert await connection.get(client.queue) is None
    await client.publish(connection, b"alone", expires_ms=50)
    await client.counted(connection, (0, 0))


async def test_what_is_with_a_consumer_does_not_expire_until_it_is_given_back(
    client: Client,
) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    inbox, tag = await consume(connection, queue, prefetch=1)
    await client.publish(connection, b"0", expires_ms=50)
    await inbox.holds(1)
    await asyncio.sleep(SOON_S)
    await connection.cancel(tag)
    connection.nack(inbox.messages[0].tag)
    await client.counted(connection, (0, 0))


async def test_an_exclusive_queue_is_one_connections_and_goes_with_it(client: Client) -> None:
    connection, other = await client.connect(), await client.connect()
    await client.declare(connection, durable=False, exclusive=True)
    passive = commands.Queue.Declare(queue=client.queue, passive=True)
    await refused(other, passive, 405)
    await connection.close()
    await refused(await client.connect(), passive, 404)


async def test_an_auto_delete_queue_goes_with_its_last_consumer(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection, durable=False, exclusive=True, auto_delete=True)
    assert await client.count(connection) == (0, 0)
    _, tag = await consume(connection, queue)
    await connection.cancel(tag)
    await refused(connection, commands.Queue.Declare(queue=queue, passive=True), 404)


async def test_consumers_are_told_when_their_queue_is_deleted(client: Client) -> None:
    connection, other = await client.connect(), await client.connect()
    queue = await client.declare(connection)
    await consume(other, queue)
    await connection.call(commands.Queue.Delete(queue=queue))
    await until(lambda: other.is_lost)
    assert other.is_cancelled
    with pytest.raises(ReturnedError):
        await client.publish(connection, b"0")


async def test_other_arguments_are_refused(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    other = commands.Queue.Declare(queue=client.queue, durable=True, arguments={"x-max-length": 5})
    await refused(connection, other, 406)


async def test_an_exchange_of_another_kind_is_refused(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    other = commands.Exchange.Declare(
        exchange=client.exchange, exchange_type="fanout", durable=True
    )
    await refused(connection, other, 406)


async def test_an_ack_of_what_was_never_delivered_ends_the_channel(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    connection.ack(7)
    await until(lambda: connection.is_lost)
    assert client.lost[0].startswith("406 ")


async def test_publishing_to_no_exchange_ends_the_channel(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    with pytest.raises(ConnectionLostError):
        await connection.publish(
            b"0", exchange=f"{client.exchange}.none", routing_key="k", properties=Properties()
        )


async def test_messages_can_be_fetched_one_by_one_and_acked_together(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    await client.publish(connection, b"0", b"1")
    assert await client.count(connection) == (2, 0)
    got = [await connection.get(queue) for _ in range(3)]
    assert [one and (one.body, one.waiting) for one in got] == [(b"0", 1), (b"1", 0), None]
    assert got[1] is not None
    connection.tell(commands.Basic.Ack(delivery_tag=got[1].tag, multiple=True))
    await connection.close()
    assert await client.count(await client.connect()) == (0, 0)


async def test_a_queue_that_is_bound_twice_gets_a_message_once(client: Client) -> None:
    connection = await client.connect()
    queue = await client.declare(connection)
    bind = commands.Queue.Bind(queue=queue, exchange=client.exchange, routing_key="k")
    await connection.call(bind)
    await client.publish(connection, b"0")
    assert await client.count(connection) == (1, 0)


@pytest.mark.own_broker
async def test_a_full_queue_takes_no_more(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    await client.operator.limit(f"^{client.queue}", 2)
    try:
        await client.publish(connection, b"0", b"1")
        with pytest.raises(NackedError):
            await client.publish(connection, b"2")
        got = await connection.get(client.queue)
        assert got is not None
        await client.publish(connection, b"3")
    finally:
        await client.operator.limit("", None)


@pytest.mark.own_broker
async def test_an_alarm_blocks_who_publishes_and_delivers_that_when_it_is_over(
    client: Client,
) -> None:
    publisher, reader = await client.connect(), await client.connect()
    queue = await client.declare(publisher)
    await client.publish(publisher, b"before")
    inbox, _ = await consume(reader, queue)
    await inbox.holds(1)
    await client.operator.set_alarm(True)
    try:
        await asyncio.sleep(SOON_S)
        was_blocked = publisher.is_blocked
        with pytest.raises(BlockedError):
            await client.publish(publisher, b"during")
        assert publisher.is_blocked
        assert not was_blocked, "only who publishes is told"
        assert await client.count(reader) == (0, 1), "who does not publish is served"
        await asyncio.sleep(SOON_S)
        assert inbox.bodies == [b"before"]
        assert not reader.is_blocked
    finally:
        await client.operator.set_alarm(False)
    await until(lambda: not publisher.is_blocked)
    await inbox.holds(2)
    assert inbox.bodies == [b"before", b"during"]
    await client.publish(publisher, b"after")


@pytest.mark.own_broker
async def test_a_restart_keeps_what_is_durable_and_persistent(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    own = await client.declare(
        connection, queue=f"{client.queue}.own", durable=False, exclusive=True
    )
    await client.publish(connection, b"transient")
    await client.publish(connection, b"persistent", is_persistent=True)
    await client.operator.restart()
    await until(lambda: connection.is_lost)
    again = await client.connect()
    await client.counted(again, (1, 0))
    got = await again.get(client.queue)
    assert got is not None
    assert got.body == b"persistent"
    await client.publish(again, b"bound still", key="k")
    await refused(again, commands.Queue.Declare(queue=own, passive=True), 404)
