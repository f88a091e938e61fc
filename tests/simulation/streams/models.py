"""Models that give pieces, one for each of the runner's sources, and what ends their runners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from modelyard.core.contract import Contract, contract_of
from modelyard.core.errors import InvalidInput
from modelyard.model import Model, StreamingModel
from tests.simulation.schedule import PIECE_BYTES, Act, Kind, Order, Piece
from tests.simulation.streams.rig import Begun

if TYPE_CHECKING:
    from tests.simulation.streams.runner import ConcurrentRunner

STEP_S = 0.002
BALLAST = "." * PIECE_BYTES


class Gone(Exception):
    """The runner has ended, or stands still: nothing more of it gets out."""


class _Worker:
    """What the models have in common."""

    def __init__(self, runner: ConcurrentRunner) -> None:
        self.runner = runner
        self.rig = runner.rig

    async def answer(self, orders: Sequence[Order]) -> list[int]:
        """Answer as a whole."""
        self.rig.began(orders)
        self.runner.launcher.on_batch([[(o.nonce, o.act, o.work_ms) for o in orders]])
        acts: set[Act] = {order.act for order in orders}
        if "refuse" in acts:
            raise InvalidInput("not this")
        if "hang" in acts:
            await asyncio.Event().wait()
        if self.runner.calls is not None:
            await self.runner.calls.ask([order.nonce for order in orders])
        model, chance = self.runner.launcher.model, self.runner.launcher.chance
        took_ms = model.base_ms + sum(model.each_ms + order.work_ms for order in orders)
        await asyncio.sleep(took_ms / 1000 * chance.uniform(0.9, 1.1))
        for act in ("exit", "oom", "raise"):
            if act in acts:
                self.act(act)
        return [model.answer(order.nonce) for order in orders]

    def act(self, act: Act) -> None:
        """Do what an order says before one of its pieces; what hangs does so by itself."""
        if act == "raise":
            raise ValueError("as ordered")
        if act == "refuse":
            raise InvalidInput("not this")
        if act == "exit":
            self.runner.end(7)
            raise Gone
        if act == "oom":
            self.runner.end(-9)
            raise Gone

    def piece(self, begun: Begun, number: int) -> Piece:
        """Make a piece."""
        if begun.order.act and begun.order.breaks_at == number:
            self.act(begun.order.act)
        self.rig.made(begun, number + 1)
        return begun.order.nonce, number, begun.number, BALLAST


class AsyncModel(Model):
    """An async generator."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    async def predict(self, instances: list[Order]) -> list[int]:
        return await self._worker.answer(instances)

    async def stream(self, instance: Order) -> AsyncIterator[Piece]:
        begun = self._worker.rig.begin(instance)
        for number in range(instance.pieces):
            await asyncio.sleep(instance.piece_ms / 1000)
            if instance.act == "hang" and instance.breaks_at == number:
                await asyncio.Event().wait()
            yield self._worker.piece(begun, number)


class GeneratorModel(Model):
    """A plain generator: it computes, so in virtual time it takes none."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    async def predict(self, instances: list[Order]) -> list[int]:
        return await self._worker.answer(instances)

    def stream(self, instance: Order) -> Iterator[Piece]:
        begun = self._worker.rig.begin(instance)
        for number in range(instance.pieces):
            if instance.act == "hang" and instance.breaks_at == number:
                self._worker.runner.process.freeze()  # with all others of this runner
                raise Gone
            yield self._worker.piece(begun, number)


class EngineModel(StreamingModel):
    """Makes the next pieces of all streams in one step."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._open: dict[int, tuple[Begun, int, float]] = {}  # the next piece, and when

    async def predict(self, instances: list[Order]) -> list[int]:
        return await self._worker.answer(instances)

    def admit(self, stream: int, instance: Order) -> None:
        begun = self._worker.rig.begin(instance)
        self._open[stream] = begun, 0, self._now() + instance.piece_ms / 1000

    async def step(self) -> Iterable[tuple[int, Piece | None]]:
        await asyncio.sleep(STEP_S)
        made: list[tuple[int, Any]] = []
        for stream, (begun, number, due) in list(self._open.items()):
            order = begun.order
            if due > self._now() or (order.act == "hang" and order.breaks_at == number):
                continue
            if number == order.pieces:
                made.append((stream, None))
                del self._open[stream]
                continue
            try:
                made.append((stream, self._worker.piece(begun, number)))
            except Exception as error:
                made.append((stream, error))
                del self._open[stream]
                continue
            self._open[stream] = begun, number + 1, due + order.piece_ms / 1000
        return made

    def leave(self, stream: int) -> None:
        self._open.pop(stream, None)

    def _now(self) -> float:
        return self._worker.rig.world.loop.time()


_CLASSES: dict[Kind, type[Any]] = {
    "async": AsyncModel,
    "generator": GeneratorModel,
    "engine": EngineModel,
}


@cache
def contract_for(kind: Kind) -> Contract:
    """Give the contract of a kind of model."""
    return contract_of(_CLASSES[kind])


def make(kind: Kind, runner: ConcurrentRunner) -> Model:
    """Make a model of a kind."""
    model: Model = _CLASSES[kind](_Worker(runner))
    return model
