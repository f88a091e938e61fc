"""The course of a simulation: all start, the schedule happens, answers are waited for, everybody
must serve again, and all stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

import msgspec

from modelyard.core.messages import SERVING
from tests.simulation.allowed import GRACE_S
from tests.simulation.faults import RECOVERY_S, strike
from tests.simulation.jobs.checks import are_ended, jobs_end_by
from tests.simulation.oracle import judge_end, judge_rest
from tests.simulation.parts import Gateway
from tests.simulation.schedule import Ask, JobAsk
from tests.simulation.world import World

START_S = 40.0
STOP_S = 60.0
QUIET_S = 150.0  # a hung batch may take several times as long as the longest before it
PROBES = 3


class Course:
    """What happens in a world, and in which order."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self) -> None:
        """Let it all happen."""
        world = self._world
        for _ in range(world.schedule.gateways):
            world.add_gateway()
        if not world.schedule.is_embedded:
            for model in world.schedule.models:
                for _ in range(model.workers):
                    world.add_worker(model.number)
        if not await self._wait_for(self._is_serving, START_S):
            world.ledger.problem(f"not serving after {START_S} s")
            return
        world.began = world.loop.time()
        world.checks.begin()
        for event in world.schedule.events:
            if isinstance(event, Ask):
                world.loop.call_at(world.began + event.at, world.ask, event)
            elif isinstance(event, JobAsk):
                world.loop.call_at(world.began + event.at, world.submit, event)
            else:
                world.loop.call_at(world.began + event.at, strike, world, event)
        over = max((e.at + getattr(e, "lasts_s", 0.0) for e in world.schedule.events), default=0.0)
        await asyncio.sleep(over + 0.01)
        await self._until_answered()
        await self._until_jobs_end()
        if world.faults:
            await asyncio.sleep(self._recovered_at() - world.loop.time())
        if not await self._wait_for(self._is_serving, RECOVERY_S):
            world.ledger.problem(
                f"not serving again {RECOVERY_S} s after it should: {self._where()}"
            )
            return
        await self._probe()
        if not await self._wait_for(self._is_quiet, QUIET_S):
            world.ledger.problem(f"something still runs {QUIET_S} s after all is answered")
        await asyncio.sleep(0.7)
        world.broker.purge_expired()
        judge_rest(world)
        await self._end()
        judge_end(world)

    def _recovered_at(self) -> float:
        world = self._world
        return max(world.loop.time(), *(struck.until for struck in world.faults))

    def _is_serving(self) -> bool:
        world = self._world
        models = [m for m in world.schedule.models if m.workers or world.schedule.is_embedded]
        models = [m for m in models if not world.schedule.is_in_circle(m)]
        for front in world.fronts:
            if front.process.state != "up":
                return False
            if isinstance(front, Gateway) and not front.transport.is_open:
                return False
            for model in models:
                entry = next(
                    (e for e in front.catalog.versions(model.name)
                     if e.target.version == model.version), None
                )  # fmt: skip
                if entry is None or not entry.is_open:
                    return False
        return all(
            worker.consumer.is_consuming and worker.pool._runners.state in SERVING
            for worker in world.workers
        )

    def _is_quiet(self) -> bool:
        world = self._world
        slots = [slot for pooled in world.pools() for slot in pooled.pool._runners.slots]
        return not any(slot.batch or not slot.is_ready for slot in slots)

    def _where(self) -> str:
        """Say who is not up."""
        world = self._world
        states = []
        for worker in world.workers:
            consuming = worker.consumer.is_consuming
            states.append(f"{worker.name} {worker.pool._runners.state} consuming={consuming}")
        for front in world.fronts:
            entries = front.catalog.entries()
            states.append(
                f"{front.name} {[(str(e.target), e.announcement.state) for e in entries]}"
            )
        return "; ".join(states)

    async def _until_answered(self) -> None:
        """Wait for all answers, or until they should have come."""
        world = self._world
        last = max((asked.over_at for asked in world.ledger.asked), default=0.0) + GRACE_S
        await self._wait_for(self._is_answered, last - world.loop.time() + 0.1)

    async def _until_jobs_end(self) -> None:
        """Wait for the ends of all jobs, or until they should have come."""
        seconds = jobs_end_by(self._world) - self._world.loop.time()
        await self._wait_for(lambda: are_ended(self._world), seconds, look_every_s=0.5)

    def _is_answered(self) -> bool:
        world = self._world
        return all(asked.answers or asked.is_excused for asked in world.ledger.asked)

    async def _probe(self) -> None:
        """See that every gateway gets answers from every target again."""
        world = self._world
        world.log("probes")
        numbers = count(5_000_000)
        for number, _ in enumerate(world.fronts):
            for model in world.schedule.models:
                if not (model.workers or world.schedule.is_embedded):
                    continue
                if world.schedule.is_in_circle(model):
                    continue
                for _ in range(PROBES):
                    nonce = next(numbers)
                    ask = Ask(
                        at=0.0, id=str(nonce), nonce=nonce, model=model.number, gateway=number,
                        timeout_s=20.0,
                    )  # fmt: skip
                    world.ask(ask, is_probe=True)
                if model.kind and not model.calls:
                    nonce = next(numbers)
                    ask = msgspec.structs.replace(ask, id=str(nonce), nonce=nonce, pieces=3)
                    world.ask(ask, is_probe=True)
        await asyncio.sleep(0.005)
        await self._until_answered()

    async def _end(self) -> None:
        """Stop everybody in good order."""
        world = self._world
        for part in [*world.fronts, *world.workers]:
            world.log(f"{part.name} is told to stop")
            part.stop()
        tasks = [part.done for part in world.parts if part.done and part.process.state != "dead"]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    async def _wait_for(
        self, condition: Callable[[], bool], seconds: float, *, look_every_s: float = 0.02
    ) -> bool:
        world = self._world
        give_up = world.loop.time() + seconds
        while not condition():
            if world.loop.time() >= give_up:
                return False
            await asyncio.sleep(look_every_s)
        return True
