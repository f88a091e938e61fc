"""What is around a model that gives pieces: time, the ledger, and ways to end its runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.ledger import Run
from tests.simulation.schedule import Order

if TYPE_CHECKING:
    from tests.simulation.loop import Process
    from tests.simulation.world import World


class Begun(NamedTuple):
    """A run of a stream; ``number`` is in each of its pieces."""

    order: Order
    number: int


class Rig:
    """What all runners of one pool share.

    Args:
        world: Where they are.
        life: The name of the pool's life, for the ledger.
    """

    def __init__(self, world: World, life: str) -> None:
        self.world = world
        self.life = life
        self._seen: set[int] = set()

    def began(self, orders: Sequence[Order]) -> None:
        """Note that instances came to the model, together. It may be late for the second part of a
        large request, and for what runs once more by itself after a batch has failed.
        """
        now = self.world.loop.time()
        for position, order in enumerate(orders):
            is_first = position == 0 and order.nonce % 100 == 0 and order.nonce not in self._seen
            self.world.ledger.runs.append(Run(order.nonce, self.life, now, is_first))
        self._seen.update(order.nonce for order in orders)

    def begin(self, order: Order) -> Begun:
        """Note that a stream begins."""
        self.began([order])
        begun = Begun(order, next(self.world.run_numbers))
        self.world.checks.streams.on_begun(self.life, order)
        self.world.log(f"{self.life} begins {order} as run {begun.number}")
        return begun

    def made(self, begun: Begun, pieces: int) -> None:
        """Have it checked that so many pieces may be made by now."""
        self.world.checks.streams.on_made(self.life, begun.order, pieces)

    def host(self, process: Process) -> None:
        """Keep a runner's process, to clear it away at the end."""
        self.world.processes.append(process)
