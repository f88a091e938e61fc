"""A connection to the broker: publishing, consuming, and its end; the test plays the broker."""

from __future__ import annotations

import asyncio

import pytest
from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.heartbeat import Heartbeat

from modelyard.transports.amqp.confirms import (
    BlockedError,
    ConnectionLostError,
    NackedError,
    ReturnedError,
    UnconfirmedError,
)
from modelyard.transports.amqp.connection import (
    CLOSE_TIMEOUT_S,
    HALF_FRAME_S,
    HEARTBEAT_S,
    TICK_S,
    Connection,
)
from modelyard.transports.amqp.frames import Properties, body_frame, header_frame
from modelyard.transports.amqp.parser import Message
from tests.unit.asking import settle
from tests.unit.brokers import Network, opened


def publish(connection: Connection, body: bytes = b"x") -> asyncio.Future[None]:
    return connection.publish(body, exchange="e", routing_key="k", properties=Properties())


# Publishing.


async def test_a_message_is_published_once_it_is_confirmed() -> None:
    _, broker, connection = await opened()
    await connection.confirm_publishing()
    first, second, third = (publish(connection) for _ in range(3))
    broker.say(commands.Basic.Ack(2, multiple=True))
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    broker.say(commands.Basic.Nack(3))
    with pytest.raises(NackedError):
        await third


async def test_a_message_that_no_queue_takes_comes_back() -> None:
    _, broker, connection = await opened()
    returned = publish(connection)
    broker.say(commands.Basic.Return(312, "NO_ROUTE", "e", "k"))
    broker.deliver(header_frame(Properties(message_id="1"), 1) + body_frame(b"x"))
    broker.say(commands.Basic.Ack(1))
    with pytest.raises(ReturnedError, match="NO_ROUTE"):
        await returned


async def test_a_message_that_is_not_confirmed_in_time_fails() -> None:
    network, _, connection = await opened()
    late = publish(connection)
    await network.pass_time(1.5)
    newer = publish(connection)
    await network.pass_time(1)
    with pytest.raises(UnconfirmedError):
        await late
    assert not newer.done()


async def test_a_blocked_broker_takes_nothing_until_it_is_not() -> None:
    _, broker, connection = await opened()
    before = publish(connection)
    broker.say(commands.Connection.Blocked("low on disk"))
    for message in (before, publish(connection)):
        with pytest.raises(BlockedError):
            await message
    assert connection.is_blocked
    broker.say(commands.Connection.Unblocked())
    publish(connection)
    assert not connection.is_blocked


@pytest.mark.parametrize("size", [4096 - 8, 4096 - 7, 10_000])
async def test_a_large_message_goes_in_frames_as_large_as_the_broker_takes(size: int) -> None:
    network = Network()
    network.broker.tuned_bytes = 4096
    connection = await network.open()
    network.broker.said.clear()
    publish(connection, b"x" * size)
    bodies = [found.value for found in network.broker.said[2:]]
    assert b"".join(bodies) == b"x" * size
    assert max(map(len, bodies)) <= 4096 - 8


# Consuming.


async def test_messages_go_to_their_consumer_whose_defects_are_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, broker, connection = await opened()
    got: list[Message] = []

    def take(message: Message) -> None:
        got.append(message)
        raise ValueError("a defect")

    tag = await connection.consume("queue", take)
    for number in (1, 2):
        broker.say(commands.Basic.Deliver(tag, number, False, "", ""))
        broker.deliver(header_frame(Properties(), 1) + body_frame(b"x"))
    assert [(message.tag, message.body) for message in got] == [(1, b"x"), (2, b"x")]
    assert "a defect" in caplog.text
    connection.ack(1)
    connection.nack(2)
    await connection.cancel(tag)
    assert broker.names[-3:] == ["Basic.Ack", "Basic.Nack", "Basic.Cancel"]
    assert await connection.get("queue") is None


async def test_a_fetched_message_is_given() -> None:
    _, broker, connection = await opened()
    broker.is_answering = False
    getting = asyncio.create_task(connection.get("queue"))
    await settle()
    broker.say(commands.Basic.GetOk(1, False, "", "", 7))
    broker.deliver(header_frame(Properties(), 1) + body_frame(b"x"))
    got = await getting
    assert got is not None
    assert (got.tag, got.waiting, got.body) == (1, 7, b"x")


async def test_a_message_that_is_missing_ends_the_connection() -> None:
    network, broker, connection = await opened()
    got: list[Message] = []
    tag = await connection.consume("queue", got.append)
    for number in (1, 3):
        broker.say(commands.Basic.Deliver(tag, number, False, "", ""))
        broker.deliver(header_frame(Properties(), 1) + body_frame(b"x"))
    assert [message.tag for message in got] == [1]
    assert ["delivery 3 came after 1" in why for why in network.lost] == [True]


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    network, broker, connection = await opened()
    broker.is_answering = False
    getting = asyncio.create_task(connection.get("queue"))
    await settle()
    getting.cancel()
    await settle()
    broker.say(commands.Basic.GetEmpty())
    assert network.lost == []


# The end.


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (commands.Basic.GetEmpty(), "unexpected answer from the broker: Basic.GetEmpty"),
        (commands.Connection.Close(320, "FORCED", 0, 0), "320 FORCED"),
        (commands.Basic.Cancel("tag"), "a queue that we consume was deleted"),
    ],
)
async def test_what_ends_a_connection_is_told_once(said: Frame, why: str) -> None:
    network, broker, connection = await opened()
    waiting = publish(connection)
    asking = asyncio.create_task(connection.call(commands.Queue.Delete(queue="q")))
    await settle()
    broker.say(said)
    broker.deliver(frame.marshal(Heartbeat(), 0))
    with pytest.raises(ConnectionLostError, match=why):
        await asking
    with pytest.raises(ConnectionLostError, match=why):
        await waiting
    await settle()
    assert network.lost == [why]
    assert connection.is_cancelled == isinstance(said, commands.Basic.Cancel)


async def test_a_message_for_nobody_ends_the_connection() -> None:
    network, broker, connection = await opened()
    broker.say(commands.Basic.Deliver("who", 1, False, "", ""))
    broker.deliver(header_frame(Properties(), 0) + header_frame(Properties(), 0))
    assert "an unknown consumer 'who'" in network.lost[0]
    connection.ack(1)  # nothing is written on it any more
    connection.nack(1)
    assert broker.said == []
    with pytest.raises(ConnectionLostError):
        await publish(connection)
    with pytest.raises(ConnectionLostError):
        await connection.call(commands.Queue.Delete(queue="q"))


@pytest.mark.parametrize(("wanted_s", "agreed_s"), [(60, HEARTBEAT_S), (4, 4), (0, HEARTBEAT_S)])
async def test_a_silent_broker_is_given_up_and_heartbeats_are_sent_meanwhile(
    wanted_s: int, agreed_s: int
) -> None:
    network = Network()
    broker, network.broker.heartbeat_s = network.broker, wanted_s
    await network.open()
    assert [
        one.heartbeat for one in broker.said if isinstance(one, commands.Connection.TuneOk)
    ] == [agreed_s]
    broker.said.clear()
    await network.pass_time(2 * agreed_s - 1)
    assert network.lost == []
    assert sum(isinstance(found, Heartbeat) for found in broker.said) == 3
    await network.pass_time(2)
    assert network.lost == ["the broker is silent"]
    await network.pass_time(1)


async def test_a_broker_that_is_heard_is_kept() -> None:
    network, broker, _ = await opened()
    for _ in range(5):
        await network.pass_time(HEARTBEAT_S)
        broker.deliver(frame.marshal(Heartbeat(), 0))
    assert network.lost == []


async def test_half_a_frame_is_not_waited_for_for_ever() -> None:
    network, broker, _ = await opened()
    broker.deliver(body_frame(b"x" * 100)[:-1])
    await network.pass_time(HALF_FRAME_S - 1)
    broker.deliver(b"")
    assert network.lost == []
    await network.pass_time(2)
    assert network.lost == ["a frame was not completed in time"]


async def test_who_hangs_up_takes_leave() -> None:
    network, broker, connection = await opened()
    closing = asyncio.create_task(connection.close())
    await settle()
    assert broker.names == ["Connection.Close"]
    await closing
    assert (network.lost, broker.is_aborted) == ([], True)


async def test_who_hangs_up_waits_for_a_silent_broker_only_so_long() -> None:
    network, broker, connection = await opened()
    broker.is_answering = False
    closing = asyncio.create_task(connection.close())
    await network.pass_time(CLOSE_TIMEOUT_S + 2 * TICK_S)
    await closing
    assert broker.is_aborted
    await connection.close()  # it is closed already
    assert network.lost == []


async def test_a_broker_that_goes_away_is_told() -> None:
    network, broker, _ = await opened()
    broker.lose(ConnectionResetError("reset by peer"))
    assert network.lost == ["reset by peer"]
    network, broker, _ = await opened()
    broker.lose()
    assert network.lost == ["the broker closed the connection"]
