"""The in-memory broker behind a real socket, for tests that run in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import NamedTuple

from tests.simulation.rabbitmq.broker import InMemoryBroker


class Served(NamedTuple):
    """A broker, and where it is."""

    broker: InMemoryBroker
    url: str


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    """Serve a broker on a free port of loopback."""
    broker = InMemoryBroker(clock=time.monotonic, chance=Random(1))
    server = await asyncio.get_running_loop().create_server(broker.accept, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Served(broker, f"amqp://guest:guest@127.0.0.1:{port}/")
        broker.stop()
