"""What the simulator takes for granted of RabbitMQ where frames are damaged, on a real one and on
the one in memory.
"""

from __future__ import annotations

import pytest
from pamqp import base, commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from tests.simulation.operators import Client, until


@pytest.mark.parametrize(
    ("pieces", "codes"),
    [
        ([ContentHeader(body_size=9), ContentBody(b"short")], ("505 ",)),
        ([ContentHeader(body_size=3), ContentBody(b"long")], ("505 ", "501 ")),  # RabbitMQ 4: 501
        ([ContentHeader(body_size=0), ContentBody(b"none")], ("505 ",)),
        ([ContentBody(b"no header")], ("505 ",)),
        ([], ("505 ",)),
    ],
)
async def test_content_that_is_not_as_long_as_its_header_says_ends_the_connection(
    client: Client, pieces: list[base.Frame], codes: tuple[str, ...]
) -> None:
    """It ends with the next method at the latest, so no confirm is taken for another message's."""
    connection = await client.connect()
    await client.declare(connection)
    begun = commands.Basic.Publish(exchange=client.exchange, routing_key="k")
    for piece in [begun, *pieces, commands.Basic.Qos()]:
        connection.tell(piece)
    await until(lambda: connection.is_lost)
    assert client.lost[0].startswith(codes)


async def test_a_channel_that_is_not_open_ends_the_connection(client: Client) -> None:
    connection = await client.connect()
    await client.declare(connection)
    connection._transport.write(frame.marshal(commands.Basic.Qos(), 2))
    await until(lambda: connection.is_lost)
    assert client.lost[0].startswith("504 ")
