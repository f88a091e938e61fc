"""A broker that a test plays, and a network that leads to it: in memory, with time of their own."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.header import ProtocolHeader

from modelyard.transports.amqp.address import Address, parse_addresses
from modelyard.transports.amqp.connection import TICK_S, Connection
from modelyard.transports.amqp.frames import CHANNEL
from modelyard.transports.amqp.opening import open_connection
from tests.unit.asking import Clock, settle
from tests.unit.wire import Wire

(ADDRESS,) = parse_addresses("amqp://me:secret@broker/team")
START = commands.Connection.Start(0, 9, {}, "PLAIN", "en_US")


class Broker(Wire):
    """The broker's end. It answers what opens a connection.

    Attributes:
        said: Methods and other frames that came.
        tuned_bytes: The largest frame that it wants; 0 for any.
        heartbeat_s: How often it wants a sign of life; 0 for never.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: list[Any] = []
        self.tuned_bytes = 0
        self.heartbeat_s = 60
        self.is_answering = True
        self._unparsed = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._unparsed += data
        while self._unparsed:
            count, _, found = frame.unmarshal(self._unparsed)
            self._unparsed = self._unparsed[count:]
            self.said.append(found)
            if self.is_answering:
                asyncio.get_running_loop().call_soon(self._answer, found)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(map(bytes, list_of_data)))

    def say(self, *methods: Frame) -> None:
        """Say something."""
        for method in methods:
            channel = 0 if method.name.startswith("Connection.") else CHANNEL
            self.deliver(frame.marshal(method, channel))

    def _answer(self, found: Any) -> None:
        match found:
            case ProtocolHeader():
                self.say(START)
            case commands.Connection.StartOk():
                self.say(commands.Connection.Tune(9, self.tuned_bytes, self.heartbeat_s))
            case commands.Connection.Open():
                self.say(commands.Connection.OpenOk())
            case commands.Channel.Open():
                self.say(commands.Channel.OpenOk())
            case commands.Basic.Consume():
                self.say(commands.Basic.ConsumeOk(found.consumer_tag))
            case commands.Basic.Cancel():
                self.say(commands.Basic.CancelOk(found.consumer_tag))
            case commands.Basic.Get():
                self.say(commands.Basic.GetEmpty())
            case commands.Confirm.Select():
                self.say(commands.Confirm.SelectOk())
            case commands.Connection.Close():
                self.say(commands.Connection.CloseOk())

    @property
    def names(self) -> list[str]:
        return [found.name for found in self.said if isinstance(found, Frame)]


class Network:
    """Leads to the broker; from some of its addresses nobody answers.

    Attributes:
        addresses: Those that its name has.
        dead: Those of them at which nobody answers.
        tried: Where a connection was tried, and with which name for TLS.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.broker = Broker()
        self.addresses = ["192.0.2.1"]
        self.dead: set[str] = set()
        self.tried: list[tuple[str, int, str | None]] = []
        self.lost: list[str] = []
        loop: Any = asyncio.get_running_loop()
        loop.time = self.clock
        loop.getaddrinfo = self._look_up
        loop.create_connection = self._connect

    async def _look_up(self, host: str, port: int, *, type: int) -> list[Any]:  # noqa: A002
        assert (host, type) == ("broker", socket.SOCK_STREAM)
        return [(socket.AF_INET, type, 6, "", (found, port)) for found in self.addresses]

    async def _connect(
        self, make: Any, host: str, port: int, *, ssl: Any, server_hostname: str | None
    ) -> tuple[Broker, Connection]:
        self.tried.append((host, port, server_hostname))
        if host in self.dead:
            raise OSError(f"{host} is dead")
        connection = make()
        self.broker.set_protocol(connection)
        connection.connection_made(self.broker)
        return self.broker, connection

    async def open(self, address: Address = ADDRESS) -> Connection:
        """Open a connection."""
        return await open_connection(
            address,
            name="gateway-1",
            confirm_timeout_s=2,
            on_lost=self.lost.append,
            clock=self.clock,
        )

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.clock.now += TICK_S
            await settle()


async def opened() -> tuple[Network, Broker, Connection]:
    """Give a connection that is open."""
    network = Network()
    connection = await network.open()
    network.broker.said.clear()
    return network, network.broker, connection
