"""A pool of the product, its simulated runners, and what they report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from modelyard.core.call import Call
from modelyard.core.calls import Calls
from modelyard.core.manifest import Batching, Cache, Limits, Manifest, Scaling
from modelyard.core.messages import Announcement
from modelyard.pool.concurrent import ConcurrentSlot
from modelyard.pool.pool import Pool
from tests.simulation.launcher import Launcher
from tests.simulation.ledger import PoolCounts
from tests.simulation.part import Part
from tests.simulation.runners import SimulatedRunner
from tests.simulation.schedule import Model
from tests.simulation.streams.rig import Rig


def manifest_of(model: Model) -> Manifest:
    """Give the ``model.toml`` of a model."""
    return Manifest(
        name=model.name,
        version=model.version,
        class_="model:Model",
        calls=Calls(models=list(model.calls)),
        cache=Cache(ttl_s=model.cache_ttl_s),
        batching=Batching(
            max_batch_size=model.max_batch_size,
            batch_wait_ms=model.batch_wait_ms,
            concurrency=model.concurrency,
        ),
        limits=Limits(
            timeout_s=model.timeout_s,
            max_in_flight=model.max_in_flight,
            load_timeout_s=model.load_timeout_s,
            piece_timeout_s=model.piece_timeout_s,
            stream_timeout_s=model.stream_timeout_s,
        ),
        scaling=Scaling(
            min_runners=model.min_runners,
            max_runners=model.max_runners,
            idle_s=model.idle_s,
            scale_to_zero=model.scale_to_zero,
        ),
    )


class Pooled:
    """A pool, its simulated runners, and what they report."""

    def __init__(
        self,
        part: Part,
        model: Model,
        *,
        announce: Callable[[Announcement], None],
        may_sleep: bool,
    ) -> None:
        world = part.world
        self.model = model
        self.life = f"{part.name}:{model.name}"
        self.part = part
        self.counts = PoolCounts()
        self.ledger = world.ledger
        self.launcher = Launcher(
            world.loop,
            part.process,
            model,
            ledger=world.ledger,
            chance=Random(part.chance.random()),
            life=self.life,
            clock=part.clock,
            on_batch=lambda batch: world.checks.on_batch(self, batch),
            on_handed=self._on_handed,
            rig=Rig(world, self.life),
        )
        self.pool = Pool(
            folder=Path("/nowhere"),
            manifest=manifest_of(model),
            metrics=self.counts,
            announce=announce,
            launch=self.launcher,
            clock=part.clock,
            may_sleep=may_sleep,
        )

    def _on_handed(self, runner: SimulatedRunner, number: int | None) -> None:
        """Have the calls checked that a runner is handed."""
        checks = self.part.world.checks
        for slot in self.pool._runners.slots:
            if slot._runner is not runner:
                continue
            if number is None:
                checks.on_handed(self, slot.ahead or slot.batch)
            else:
                assert isinstance(slot, ConcurrentSlot)
                checks.on_handed(self, slot._under_way[number].calls)
                checks.streams.on_handed(self, slot, number)

    def submit(self, call: Call, *, is_suspect: bool = False) -> None:
        """Pass a call on to the pool, and count it."""
        self.ledger.submissions[self.life, call.request.id] += 1
        self.pool.submit(call, is_suspect=is_suspect)

    def orphan(self) -> None:
        """End the runners with their parent."""
        for runner in self.launcher.runners:
            runner.orphaned()
