"""Opens a connection to the broker: resolves the host, connects, and does the handshake."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from pamqp import commands

from modelyard.core.clock import Clock
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.connection import HEARTBEAT_S, Connection
from modelyard.transports.amqp.parser import LARGEST_FRAME_BYTES

_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


async def open_connection(
    address: Address,
    *,
    name: str,
    confirm_timeout_s: float,
    on_lost: Callable[[str], None],
    clock: Clock,
) -> Connection:
    """Connect and open the channel; ``name`` is shown in the broker's management UI.

    Raises:
        OSError: The broker cannot be reached.
        ConnectionLostError: The broker refused; the text says why.
    """
    connection = await _connect(
        address,
        lambda: Connection(confirm_timeout_s=confirm_timeout_s, on_lost=on_lost, clock=clock),
    )
    try:
        await _shake_hands(connection, address, name)
    except BaseException:
        await connection.close(is_polite=False)
        raise
    return connection


async def _connect(address: Address, make: Callable[[], Connection]) -> Connection:
    """Try each of the host's addresses in turn.

    The host is resolved here. If ``create_connection`` of uvloop is cancelled during its own
    look-up, uvloop logs an error when the resolver answers.
    """
    loop = asyncio.get_running_loop()
    problem = OSError(f"{address.host} has no address")
    for *_, found in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        try:
            _, connection = await loop.create_connection(
                make,
                str(found[0]),
                address.port,
                ssl=address.tls,
                server_hostname=address.host if address.tls else None,
            )
        except OSError as error:
            problem = error
        else:
            return connection
    raise problem


async def _shake_hands(connection: Connection, address: Address, name: str) -> None:
    await connection.greet()
    start_ok = commands.Connection.StartOk(
        client_properties={
            "product": "Modelyard",
            "connection_name": name,
            "capabilities": cast("Any", _CAPABILITIES),
        },
        mechanism="PLAIN",
        response=f"\0{address.user}\0{address.password}",
    )
    tune = await connection.call(start_ok, ["Connection.Tune"])
    assert isinstance(tune, commands.Connection.Tune)
    frame_bytes = min(tune.frame_max or LARGEST_FRAME_BYTES, LARGEST_FRAME_BYTES)
    heartbeat_s = min(tune.heartbeat or HEARTBEAT_S, HEARTBEAT_S)
    connection.tell(
        commands.Connection.TuneOk(
            channel_max=tune.channel_max, frame_max=frame_bytes, heartbeat=heartbeat_s
        )
    )
    await connection.call(commands.Connection.Open(virtual_host=address.vhost))
    await connection.call(commands.Channel.Open())
    connection.begin(frame_bytes=frame_bytes, heartbeat_s=heartbeat_s)
