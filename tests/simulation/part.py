"""A simulated process of the product, before it is anything in particular."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from random import Random
from typing import TYPE_CHECKING

from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.session import Broker
from tests.simulation.ledger import GatewayMetrics
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

PORT = 5672
EPOCH = 1_700_000_000.0


@contextlib.asynccontextmanager
async def background(*runs: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``runs`` as long as the block; should one fail, the block is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run) for run in runs]
        yield
        for task in tasks:
            task.cancel()


class Part:
    """A simulated process of the product.

    Args:
        world: Where it lives.
        name: Its own; no other process had it before.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process = Process(name, world.loop)
        self.chance = world.chance(name)
        self._offset = self.chance.uniform(0.0, 1e5)  # since its machine was started
        self._skew = self.chance.uniform(-1.0, 1.0) * world.schedule.skew_s
        self._stop = asyncio.Event()
        self.is_stopping = False
        self.done: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it is alive, and not about to leave."""
        return self.process.state == "up" and not self.is_stopping

    def clock(self) -> float:
        """Give the reading of its monotonic clock."""
        return self.world.loop.time() + self._offset

    def wall_clock(self) -> float:
        """Give the time of the day, as it has it."""
        return self.world.loop.time() + EPOCH + self._skew

    def start(self) -> None:
        """Start it."""
        self.done = self.process.spawn(self._run())

    def stop(self) -> None:
        """Tell it to stop, in good order."""
        self.is_stopping = True
        self.process.soon(self._stop.set)

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.world.network.forget(self.process)

    async def _run(self) -> None:
        raise NotImplementedError

    def _broker(self, metrics: GatewayMetrics) -> Broker:
        return Broker(
            addresses=[Address("rabbit", PORT, "guest", "guest", "/", None)],
            owner=self.name,
            metrics=metrics,
            clock=self.clock,
            wall_clock=self.wall_clock,
            chance=Random(self.chance.random()),
        )


def count_tasks(part: Part) -> int:
    """Count the tasks of a part that are not done."""
    return sum(not task.done() for task in part.process.tasks)
