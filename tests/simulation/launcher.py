"""Starts simulated runners, badly if a fault says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from modelyard.core.clock import Clock
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Reply
from tests.simulation.calls.runner import CallingRunner
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.runners import SimulatedRunner
from tests.simulation.schedule import Instance, Model
from tests.simulation.streams.rig import Rig
from tests.simulation.streams.runner import ConcurrentRunner


class Trouble:
    """What is wrong with the machine, now: set by faults."""

    def __init__(self) -> None:
        self.load_fails = self.load_crashes = self.load_hangs = self.no_room = False


class Launcher:
    """Starts the runners of one pool; see ``pool.interfaces.Launch``.

    Args:
        loop: Time.
        process: Whose children they are.
        model: What they host.
        ledger: Told of what runs.
        chance: For delays.
        life: The name of the pool's life, for the ledger.
        clock: The machine's.
        on_batch: Told of each batch that a runner begins with.
        on_handed: Told whenever a runner is handed a batch, before it has it; and its number, of
            one that has several.
        rig: Around runners that have several.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        process: Process,
        model: Model,
        *,
        ledger: Ledger,
        chance: Random,
        life: str,
        clock: Clock,
        on_batch: Callable[[list[list[Instance] | None]], None],
        on_handed: Callable[[SimulatedRunner, int | None], None],
        rig: Rig,
    ) -> None:
        self.loop = loop
        self.process = process
        self.model = model
        self.ledger = ledger
        self.chance = chance
        self.life = life
        self.clock = clock
        self.on_batch = on_batch
        self.on_handed = on_handed
        self.rig = rig
        self.trouble = Trouble()
        self.runners: list[SimulatedRunner] = []

    async def __call__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
        on_line: Callable[[Any], None] | None = None,
        on_step: Callable[[str], None] | None = None,
        on_said: Callable[[Any], None] | None = None,
    ) -> SimulatedRunner:
        """Start one; it prints nothing."""
        await asyncio.sleep(self.chance.uniform(0.001, 0.02))
        if self.trouble.no_room:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        kind: type[SimulatedRunner] = SimulatedRunner
        if manifest.calls.models:
            kind = CallingRunner
        if manifest.batching.concurrency:
            kind = ConcurrentRunner
        runner = kind(self, manifest, on_reply=on_reply, on_closed=on_closed)
        self.runners.append(runner)
        return runner

    @property
    def live(self) -> list[SimulatedRunner]:
        """Those that run."""
        return [runner for runner in self.runners if not runner.is_dead]
