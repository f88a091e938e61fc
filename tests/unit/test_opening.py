"""How a connection to the broker is opened; the test plays the broker."""

from __future__ import annotations

import asyncio

import pytest
from pamqp import commands

from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.confirms import ConnectionLostError
from modelyard.transports.amqp.connection import HEARTBEAT_S
from modelyard.transports.amqp.parser import LARGEST_FRAME_BYTES
from tests.unit.asking import settle
from tests.unit.brokers import START, Network


async def test_hands_are_shaken_in_order_with_name_and_password() -> None:
    network = Network()
    await network.open()
    said = network.broker.said
    start, tune, open_ = said[1:4]
    assert (start.response, start.client_properties["connection_name"]) == (
        "\0me\0secret",
        "gateway-1",
    )
    assert (tune.frame_max, tune.heartbeat) == (LARGEST_FRAME_BYTES, HEARTBEAT_S)
    assert open_.virtual_host == "team"
    assert network.broker.names[-1] == "Channel.Open"


async def test_each_address_of_the_broker_is_tried() -> None:
    network = Network()
    network.addresses, network.dead = ["192.0.2.1", "192.0.2.2"], {"192.0.2.1"}
    await network.open(parse_addresses("amqps://broker")[0])
    assert network.tried == [("192.0.2.1", 5671, "broker"), ("192.0.2.2", 5671, "broker")]


@pytest.mark.parametrize("addresses", [[], ["192.0.2.1"]])
async def test_a_broker_to_which_there_is_no_way_is_told(addresses: list[str]) -> None:
    network = Network()
    network.addresses, network.dead = addresses, {"192.0.2.1"}
    with pytest.raises(OSError, match=r"192\.0\.2\.1 is dead" if addresses else "no address"):
        await network.open()


async def test_a_broker_that_does_not_want_us_says_why() -> None:
    network = Network()
    network.broker.is_answering = False
    opening = asyncio.create_task(network.open())
    await settle()
    refusal = commands.Connection.Close(403, "ACCESS_REFUSED", 10, 11)
    network.broker.say(START)
    await settle()
    network.broker.say(refusal)
    with pytest.raises(ConnectionLostError, match="403 ACCESS_REFUSED"):
        await opening
    assert network.broker.is_aborted
    assert network.lost == ["403 ACCESS_REFUSED"]


async def test_who_gives_up_opening_leaves_no_connection_behind() -> None:
    network = Network()
    network.broker.is_answering = False
    opening = asyncio.create_task(network.open())
    await settle()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert network.broker.is_aborted
